//! Frames as attackers write them: anything, with sources that need not be theirs.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header,
    Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, SingleVlanHeader, VlanId,
};

/// Source and destination on the link.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub source: [u8; 6],
    pub destination: [u8; 6],
}

/// TCP flags of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
}

impl Flags {
    pub const SYN: Self = Self {
        syn: true,
        ack: false,
        fin: false,
        rst: false,
    };
}

const HOPS: u8 = 64;
const WINDOW: u16 = 64_240;

/// A TCP segment without payload.
///
/// # Errors
/// The addresses are of different families.
pub fn tcp(path: Path, from: SocketAddr, to: SocketAddr, flags: Flags) -> Result<Vec<u8>> {
    let sequence = u32::from(from.port()) << 16 | u32::from(to.port());
    let builder = PacketBuilder::ethernet2(path.source, path.destination)
        .ip(ip_headers(from.ip(), to.ip(), Fragment::WHOLE)?)
        .tcp(from.port(), to.port(), sequence, WINDOW);
    let builder = if flags.syn { builder.syn() } else { builder };
    let builder = if flags.ack { builder.ack(1) } else { builder };
    let builder = if flags.fin { builder.fin() } else { builder };
    let builder = if flags.rst { builder.rst() } else { builder };
    let mut frame = Vec::with_capacity(builder.size(0));
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

/// A UDP datagram.
///
/// # Errors
/// The addresses are of different families, or the payload exceeds a datagram.
pub fn udp(path: Path, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(path.source, path.destination)
        .ip(ip_headers(from.ip(), to.ip(), Fragment::WHOLE)?)
        .udp(from.port(), to.port());
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// In units of 8 bytes.
    pub offset: u16,
    pub more: bool,
}

impl Fragment {
    const WHOLE: Self = Self {
        offset: 0,
        more: false,
    };
}

/// A fragment of a UDP datagram with `payload` behind the IP header: for the first fragment the
/// UDP header is prepended, the others carry no ports.
///
/// # Errors
/// As [`udp`].
pub fn udp_fragment(
    path: Path,
    from: SocketAddr,
    to: SocketAddr,
    fragment: Fragment,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(8 + payload.len());
    if fragment.offset == 0 {
        let whole_length = u16::try_from(8 + payload.len())?.saturating_mul(2);
        body.extend(from.port().to_be_bytes());
        body.extend(to.port().to_be_bytes());
        body.extend(whole_length.to_be_bytes());
        body.extend([0, 0]);
    }
    body.extend(payload);
    let builder = PacketBuilder::ethernet2(path.source, path.destination).ip(ip_headers(
        from.ip(),
        to.ip(),
        fragment,
    )?);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    builder.write(&mut frame, IpNumber::UDP, &body)?;
    Ok(frame)
}

/// The same frame with an 802.1Q tag.
///
/// # Errors
/// Not an Ethernet frame, or no VLAN id.
pub fn tagged(frame: &[u8], vlan: u16) -> Result<Vec<u8>> {
    let (mut ethernet, rest) = Ethernet2Header::from_slice(frame)?;
    let tag = SingleVlanHeader {
        vlan_id: VlanId::try_new(vlan)?,
        ether_type: ethernet.ether_type,
        ..Default::default()
    };
    ethernet.ether_type = EtherType::VLAN_TAGGED_FRAME;
    let mut tagged = ethernet.to_bytes().to_vec();
    tagged.extend(tag.to_bytes());
    tagged.extend(rest);
    Ok(tagged)
}

fn ip_headers(from: IpAddr, to: IpAddr, fragment: Fragment) -> Result<IpHeaders> {
    let offset = IpFragOffset::try_new(fragment.offset)?;
    let is_fragment = fragment.more || fragment.offset > 0;
    // All fragments of a lab share an identification: they are never meant to be put together.
    Ok(match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(0, HOPS, IpNumber::UDP, from.octets(), to.octets())?;
            header.dont_fragment = !is_fragment;
            header.more_fragments = fragment.more;
            header.fragment_offset = offset;
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                hop_limit: HOPS,
                source: from.octets(),
                destination: to.octets(),
                ..Default::default()
            };
            let fragment = || Ipv6FragmentHeader::new(IpNumber::UDP, offset, fragment.more, 0x5ec7);
            let extensions = Ipv6Extensions {
                fragment: is_fragment.then(fragment),
                ..Default::default()
            };
            IpHeaders::Ipv6(header, extensions)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            bail!("{from} and {to} are of different families")
        }
    })
}

/// Frames that no honest stack sends, by what is wrong with them. `from` and `to` are IPv4; the
/// TCP port of `to` belongs to an app.
///
/// # Errors
/// As [`tcp`].
pub fn malformed(path: Path, from: SocketAddr, to: SocketAddr) -> Result<Malformed> {
    let syn = tcp(path, from, to, Flags::SYN)?;
    let flags = |flags| tcp(path, from, to, flags);
    let source = |ip: [u8; 4]| tcp(path, (ip, from.port()).into(), to, Flags::SYN);
    let syn_fin = Flags {
        fin: true,
        ..Flags::SYN
    };
    Ok(Malformed {
        malformed: vec![
            patched(&syn, IPV4, 0x44),           // header length below 20
            patched(&syn, IPV4 + 3, 0xff),       // total length beyond the frame
            patched(&syn, IPV4 + 20 + 12, 0x40), // TCP data offset below 20
            syn.get(..IPV4 + 20 + 10).unwrap_or_default().to_vec(), // TCP header cut short
        ],
        tcp_flags: vec![flags(Flags::default())?, flags(syn_fin)?],
        martian: vec![
            source([127, 0, 0, 1])?,
            source([224, 0, 0, 1])?,
            tcp(path, to, to, Flags::SYN)?, // "land"
        ],
    })
}

/// Frames by the drop reason they deserve.
#[derive(Debug)]
pub struct Malformed {
    pub malformed: Vec<Vec<u8>>,
    pub tcp_flags: Vec<Vec<u8>>,
    pub martian: Vec<Vec<u8>>,
}

/// Where the IPv4 header begins in an untagged frame.
const IPV4: usize = Ethernet2Header::LEN;

fn patched(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(byte) = frame.get_mut(at) {
        *byte = value;
    }
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    const PATH: Path = Path {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
    };

    fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
        let text = if v6 {
            ("[2001:db8::1]:53", "[2001:db8::2]:7000")
        } else {
            ("192.0.2.1:53", "192.0.2.2:7000")
        };
        (
            text.0.parse().expect("an address"),
            text.1.parse().expect("an address"),
        )
    }

    /// An attack whose frames the kernel would drop anyway proves nothing about the filter.
    #[test]
    fn frames_are_what_a_host_would_accept() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            let syn = tcp(PATH, from, to, Flags::SYN).expect("a frame");
            let parsed = PacketHeaders::from_ethernet_slice(&syn).expect("a packet");
            let Some(TransportHeader::Tcp(header)) = parsed.transport else {
                unreachable!("a TCP segment");
            };
            let sum = match parsed.net.expect("an IP header") {
                NetHeaders::Ipv4(ip, _) => header.calc_checksum_ipv4(&ip, &[]),
                NetHeaders::Ipv6(ip, _) => header.calc_checksum_ipv6(&ip, &[]),
                NetHeaders::Arp(_) => unreachable!("an IP packet"),
            };
            assert_eq!(sum.expect("short"), header.checksum);
            assert!(header.syn && !header.ack);
            assert_eq!((header.source_port, header.destination_port), (53, 7000));
        }
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            for (offset, more) in [(0, true), (64, false)] {
                let fragment = Fragment { offset, more };
                let frame = udp_fragment(PATH, from, to, fragment, &[0; 64]).expect("a frame");
                let parsed = PacketHeaders::from_ethernet_slice(&frame).expect("a packet");
                let length = parsed.payload.slice().len();
                let (is_fragment, at) = match parsed.net.expect("an IP header") {
                    NetHeaders::Ipv4(ip, _) => (ip.is_fragmenting_payload(), ip.fragment_offset),
                    NetHeaders::Ipv6(_, extensions) => {
                        let header = extensions.fragment.expect("a fragment header");
                        (header.is_fragmenting_payload(), header.fragment_offset)
                    }
                    NetHeaders::Arp(_) => unreachable!("an IP packet"),
                };
                assert!(is_fragment);
                assert_eq!(at.value(), offset);
                assert_eq!(length, if offset == 0 { 72 } else { 64 });
            }
        }
    }

    #[test]
    fn a_tag_comes_between_link_and_network_header() {
        let (from, to) = ends(false);
        let frame = udp(PATH, from, to, b"ping").expect("a frame");
        let tagged = tagged(&frame, 100).expect("a frame");
        assert_eq!(tagged.len(), frame.len() + 4);
        let parsed = PacketHeaders::from_ethernet_slice(&tagged).expect("a packet");
        let ids = parsed.vlan_ids();
        assert_eq!(ids.first().map(|id| id.value()), Some(100));
        assert_eq!(parsed.payload.slice(), b"ping");
    }
}
