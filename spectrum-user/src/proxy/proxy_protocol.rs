//! The headers that tell an origin who its client is: PROXY v1 and v2 (the specification of
//! HAProxy, "The PROXY protocol", 2020/03/05) and the Simple Proxy Protocol for UDP.
//!
//! Pure: bytes in, values out. Parsing is as strict as HAProxy's.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
    str,
};

use bytes::{Buf as _, BufMut as _};

use crate::config::Transport;

/// The most bytes a PROXY v1 header can have, the line end included.
pub const V1_MAX: usize = 107;
/// The first bytes of every PROXY v2 header.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of every Simple Proxy Protocol header.
pub const SIMPLE_LENGTH: usize = 38;
/// The first bytes of every Simple Proxy Protocol header.
pub const SIMPLE_MAGIC: [u8; 2] = [0x56, 0xec];

/// Signature, version and command, family and transport, length.
const V2_PREFIX: usize = 16;
const V2_VERSION: u8 = 0x20;
const V2_LOCAL: u8 = 0;
const V2_PROXY: u8 = 1;
const V2_TLV_ALPN: u8 = 0x01;
const V2_TLV_AUTHORITY: u8 = 0x02;
const V2_TLV_SSL: u8 = 0x20;
const V2_SUBTLV_SSL_VERSION: u8 = 0x21;
const V2_SUBTLV_SSL_CIPHER: u8 = 0x23;
/// The client speaks TLS.
const V2_CLIENT_SSL: u8 = 0x01;
/// The client has shown a certificate over this connection.
const V2_CLIENT_CERT_CONN: u8 = 0x02;
/// The TLV that holds a CRC32C of the header, computed with itself as zero.
const V2_TLV_CRC32C: u8 = 0x03;

/// The two ends of a flow at the edge. Both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    /// The edge address that the client reached.
    pub edge: SocketAddr,
}

/// An encoded header.
#[derive(Clone, Copy)]
pub struct Header {
    bytes: [u8; V1_MAX],
    length: usize,
}

/// What the parsers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// More bytes may make it a header.
    #[error("the header is not complete")]
    Incomplete,
    #[error("not a header: {0}")]
    Invalid(&'static str),
}

/// PROXY v1: one line of text.
pub fn encode_v1(ends: &Ends) -> Header {
    let family = match ends.client {
        SocketAddr::V4(_) => "TCP4",
        SocketAddr::V6(_) => "TCP6",
    };
    Header::write(|out| {
        // No room for it is left only by a longer line than [`V1_MAX`], and there is none.
        let _ = write!(
            out,
            "PROXY {family} {} {} {} {}\r\n",
            ends.client.ip(),
            ends.edge.ip(),
            ends.client.port(),
            ends.edge.port(),
        );
    })
}

/// PROXY v2 with the command PROXY and no TLVs.
pub fn encode_v2(ends: &Ends, transport: Transport) -> Header {
    let transport = match transport {
        Transport::Tcp => 1,
        Transport::Udp => 2,
    };
    let (family, length) = match ends.client {
        SocketAddr::V4(_) => (0x10, 12_u16),
        SocketAddr::V6(_) => (0x20, 36),
    };
    Header::write(|out| {
        out.put_slice(&V2_SIGNATURE);
        out.put_u8(V2_VERSION | V2_PROXY);
        out.put_u8(family | transport);
        out.put_u16(length);
        for ip in [ends.client.ip(), ends.edge.ip()] {
            match ip {
                IpAddr::V4(ip) => out.put_u32(ip.into()),
                IpAddr::V6(ip) => out.put_u128(ip.into()),
            }
        }
        out.put_u16(ends.client.port());
        out.put_u16(ends.edge.port());
    })
}

/// PROXY v1 of a connection behind which is no client: a health check.
pub const V1_LOCAL: &[u8] = b"PROXY UNKNOWN\r\n";

/// PROXY v2 with the command LOCAL: no client is behind it.
pub fn encode_v2_local() -> Header {
    Header::write(|out| {
        out.put_slice(&V2_SIGNATURE);
        out.put_u8(V2_VERSION | V2_LOCAL);
        // Neither family nor transport, and no addresses.
        out.put_u8(0);
        out.put_u16(0);
    })
}

/// What PROXY v2 says of the TLS between client and edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientTls<'a> {
    /// The server that the client named.
    pub authority: Option<&'a str>,
    /// The protocol agreed on.
    pub alpn: Option<&'a [u8]>,
    /// As OpenSSL writes it; empty if not yet known.
    pub version: &'a str,
    /// Empty if not yet known.
    pub cipher: &'a str,
    /// Whether the client has shown a certificate, and it was verified.
    pub is_authenticated: bool,
}

/// A PROXY v2 header with TLVs about TLS.
pub fn encode_v2_tls(ends: &Ends, tls: &ClientTls<'_>) -> Vec<u8> {
    let mut out = encode_v2(ends, Transport::Tcp).to_vec();
    if let Some(alpn) = tls.alpn {
        put_tlv(&mut out, V2_TLV_ALPN, alpn);
    }
    if let Some(authority) = tls.authority {
        put_tlv(&mut out, V2_TLV_AUTHORITY, authority.as_bytes());
    }
    let mut ssl = Vec::new();
    let certificate = if tls.is_authenticated {
        V2_CLIENT_CERT_CONN
    } else {
        0
    };
    ssl.put_u8(V2_CLIENT_SSL | certificate);
    // 0 = verified.
    ssl.put_u32(u32::from(!tls.is_authenticated));
    for (kind, text) in [
        (V2_SUBTLV_SSL_VERSION, tls.version),
        (V2_SUBTLV_SSL_CIPHER, tls.cipher),
    ] {
        if !text.is_empty() {
            put_tlv(&mut ssl, kind, text.as_bytes());
        }
    }
    put_tlv(&mut out, V2_TLV_SSL, &ssl);
    let length = u16::try_from(out.len() - V2_PREFIX).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(V2_PREFIX - 2..V2_PREFIX) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    out
}

/// What is too long for a TLV is left out: names and protocols are at most 255 bytes.
fn put_tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        out.put_u8(kind);
        out.put_u16(length);
        out.put_slice(value);
    }
}

/// The Simple Proxy Protocol.
pub fn encode_simple(ends: &Ends) -> Header {
    Header::write(|out| {
        out.put_slice(&SIMPLE_MAGIC);
        for ip in [ends.client.ip(), ends.edge.ip()] {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            out.put_u128(ip.into());
        }
        out.put_u16(ends.client.port());
        out.put_u16(ends.edge.port());
    })
}

/// Reads a PROXY v1 header: its ends (`None` for `UNKNOWN`) and its length.
///
/// # Errors
/// `Incomplete` while no line end has come and one still may; else `Invalid`.
pub fn parse_v1(bytes: &[u8]) -> Result<(Option<Ends>, usize), ParseError> {
    use ParseError::{Incomplete, Invalid};

    let start = bytes.get(..bytes.len().min(6)).unwrap_or_default();
    if !b"PROXY ".starts_with(start) {
        return Err(Invalid("does not begin with PROXY"));
    }
    let window = bytes.get(..bytes.len().min(V1_MAX)).unwrap_or_default();
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let complete = bytes.len() >= V1_MAX;
        return Err(if complete {
            Invalid("no line end within 107 bytes")
        } else {
            Incomplete
        });
    };
    let line = window.get(..end).unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_not_text| Invalid("not ASCII"))?;
    let length = end + 2;

    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        Some("UNKNOWN") => return Ok((None, length)),
        _ => return Err(Invalid("unknown protocol")),
    };
    let mut ip = || {
        let ip: IpAddr = words.next()?.parse().ok()?;
        (ip.is_ipv4() == is_v4).then_some(ip)
    };
    let (Some(client), Some(edge)) = (ip(), ip()) else {
        return Err(Invalid("two addresses of the named family are expected"));
    };
    let mut port = || parse_port(words.next()?);
    let (Some(client_port), Some(edge_port)) = (port(), port()) else {
        return Err(Invalid("two decimal ports are expected"));
    };
    if words.next().is_some() {
        return Err(Invalid("something follows the ports"));
    }
    let ends = Ends {
        client: SocketAddr::new(client, client_port),
        edge: SocketAddr::new(edge, edge_port),
    };
    Ok((Some(ends), length))
}

/// Digits only: `u16::from_str` would take `+42` and `0042` as well.
fn parse_port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    if plain && !padded {
        word.parse().ok()
    } else {
        None
    }
}

/// Reads a PROXY v2 header: its ends (`None` for the command LOCAL) and its length, TLVs included.
///
/// # Errors
/// `Incomplete` while the bytes are the beginning of a header; else `Invalid`. TLVs must fill the
/// header exactly, and a CRC32C among them must be right.
pub fn parse_v2(bytes: &[u8], transport: Transport) -> Result<(Option<Ends>, usize), ParseError> {
    use ParseError::{Incomplete, Invalid};

    let start = bytes.get(..bytes.len().min(12)).unwrap_or_default();
    if !V2_SIGNATURE.starts_with(start) {
        return Err(Invalid("wrong signature"));
    }
    let Some(&[command, family, high, low]) = bytes.get(12..).and_then(<[u8]>::first_chunk) else {
        return Err(Incomplete);
    };
    if command & 0xf0 != V2_VERSION {
        return Err(Invalid("unknown version"));
    }
    let length = V2_PREFIX + usize::from(u16::from_be_bytes([high, low]));
    let header = bytes.get(..length).ok_or(Incomplete)?;
    let body = header.get(V2_PREFIX..).unwrap_or_default();
    match command & 0x0f {
        V2_LOCAL => return Ok((None, length)),
        V2_PROXY => {}
        _ => return Err(Invalid("unknown command")),
    }
    let expected = match transport {
        Transport::Tcp => 1,
        Transport::Udp => 2,
    };
    if family & 0x0f != expected {
        return Err(Invalid("another transport"));
    }
    let (ends, tlvs) = match family & 0xf0 {
        0x10 => ipv4_ends(body),
        0x20 => ipv6_ends(body),
        _ => return Err(Invalid("unknown address family")),
    }
    .ok_or(Invalid("too short for its addresses"))?;
    check_tlvs(header, tlvs)?;
    Ok((Some(ends), length))
}

fn ipv4_ends(mut body: &[u8]) -> Option<(Ends, &[u8])> {
    let client = Ipv4Addr::from(body.try_get_u32().ok()?);
    let edge = Ipv4Addr::from(body.try_get_u32().ok()?);
    with_ports(client, edge, body)
}

fn ipv6_ends(mut body: &[u8]) -> Option<(Ends, &[u8])> {
    let client = Ipv6Addr::from(body.try_get_u128().ok()?);
    let edge = Ipv6Addr::from(body.try_get_u128().ok()?);
    with_ports(client, edge, body)
}

fn with_ports(
    client: impl Into<IpAddr>,
    edge: impl Into<IpAddr>,
    mut body: &[u8],
) -> Option<(Ends, &[u8])> {
    let ends = Ends {
        client: SocketAddr::new(client.into(), body.try_get_u16().ok()?),
        edge: SocketAddr::new(edge.into(), body.try_get_u16().ok()?),
    };
    Some((ends, body))
}

fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), ParseError> {
    use ParseError::Invalid;

    while let Some((&kind, rest)) = tlvs.split_first() {
        let value = rest.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((value, rest)) = value else {
            return Err(Invalid("a TLV reaches beyond the header"));
        };
        if kind == V2_TLV_CRC32C {
            let Ok(sum) = <[u8; 4]>::try_from(value) else {
                return Err(Invalid("a CRC32C has four bytes"));
            };
            let at = header.len() - rest.len() - sum.len();
            if crc32c(header, at..at + sum.len()) != u32::from_be_bytes(sum) {
                return Err(Invalid("wrong CRC32C"));
            }
        }
        tlvs = rest;
    }
    Ok(())
}

/// CRC-32C (RFC 3720 appendix B.4) of `bytes`, those in `zeroed` counting as zero.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    const REFLECTED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = !0_u32;
    for (index, &byte) in bytes.iter().enumerate() {
        let byte = if zeroed.contains(&index) { 0 } else { byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (REFLECTED_POLYNOMIAL * carry);
        }
    }
    !crc
}

/// Reads a Simple Proxy Protocol header, which is the first [`SIMPLE_LENGTH`] bytes of a datagram.
///
/// # Errors
/// `Invalid` if the datagram does not begin with one; a datagram is never incomplete.
pub fn parse_simple(datagram: &[u8]) -> Result<Ends, ParseError> {
    let body = datagram
        .strip_prefix(&SIMPLE_MAGIC)
        .ok_or(ParseError::Invalid("wrong magic"))?;
    let (ends, _payload) = ipv6_ends(body).ok_or(ParseError::Invalid("too short"))?;
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    Ok(Ends {
        client: canonical(ends.client),
        edge: canonical(ends.edge),
    })
}

impl Header {
    /// What `write` puts into the room of the longest header.
    fn write(write: impl FnOnce(&mut &mut [u8])) -> Self {
        let mut bytes = [0; V1_MAX];
        let mut room = &mut bytes[..];
        write(&mut room);
        let length = V1_MAX - room.len();
        Self { bytes, length }
    }
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests;
