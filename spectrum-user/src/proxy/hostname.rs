//! The host that a client names in its first message, where nothing is encrypted yet: the server name
//! of a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), and the address in the handshake of Minecraft
//! Java.
//!
//! Pure: bytes in, values out.

/// The most bytes of a client that are read in search of a name: hellos with post-quantum keys and
/// long lists stay below.
pub const MAX_LENGTH: usize = 16 * 1024;

/// Why no name can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// More bytes may say.
    #[error("the message is not complete")]
    Incomplete,
    #[error("not such a message: {0}")]
    Invalid(&'static str),
}

use Unread::{Incomplete, Invalid};

/// The server that a TLS client names, in lower case; `None` if it names none.
///
/// The hello may come in any number of records.
///
/// # Errors
/// `Incomplete` while the bytes are the beginning of a hello of at most [`MAX_LENGTH`] bytes.
pub fn of_tls(bytes: &[u8]) -> Result<Option<String>, Unread> {
    let hello = client_hello(bytes)?;
    let broken = Invalid("the ClientHello is cut");
    let mut hello = Reader(&hello);
    // Version and random.
    hello.take(2 + 32).ok_or(broken)?;
    // Session, cipher suites, compression.
    hello.vector8().ok_or(broken)?;
    hello.vector16().ok_or(broken)?;
    hello.vector8().ok_or(broken)?;
    if hello.0.is_empty() {
        // Extensions came with TLS 1.0.
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector16().ok_or(broken)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16().ok_or(broken)?;
        let content = extensions.vector16().ok_or(broken)?;
        if kind == SERVER_NAME {
            return server_name(content);
        }
    }
    Ok(None)
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Bytes in a record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;

/// The body of the first message, put together from its records.
fn client_hello(bytes: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        if let Some(body) = complete_hello(&message)? {
            return Ok(body.to_vec());
        }
        let start = records.0;
        if start.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD) {
            return Err(Invalid("the record is no handshake"));
        }
        if start.get(1).is_some_and(|major| *major != 3) {
            return Err(Invalid("the record is no TLS"));
        }
        let too_long = Invalid("the ClientHello is too long");
        let Some(header) = records.take(3 + 2) else {
            return Err(incomplete_below_maximum(bytes, too_long));
        };
        let length = header
            .last_chunk()
            .map_or(0, |two| u16::from_be_bytes(*two));
        let length = usize::from(length);
        if length == 0 || length > MAX_RECORD {
            return Err(Invalid("a record of a length that TLS does not know"));
        }
        match records.take(length) {
            Some(fragment) => message.extend_from_slice(fragment),
            None => {
                // What is there already may show that there is nothing to wait for.
                message.extend_from_slice(records.0);
                complete_hello(&message)?;
                return Err(incomplete_below_maximum(bytes, too_long));
            }
        }
    }
}

/// The body of a hello that is all there; `None` if more has to come.
fn complete_hello(message: &[u8]) -> Result<Option<&[u8]>, Unread> {
    let mut reader = Reader(message);
    match reader.take(1) {
        None => return Ok(None),
        Some(kind) if *kind != [CLIENT_HELLO] => return Err(Invalid("not a ClientHello")),
        Some(_) => {}
    }
    let Some(&[high, middle, low]) = reader.take(3).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_LENGTH {
        return Err(Invalid("the ClientHello is too long"));
    }
    Ok(reader.take(length))
}

fn incomplete_below_maximum(bytes: &[u8], too_long: Unread) -> Unread {
    if bytes.len() < MAX_LENGTH {
        Incomplete
    } else {
        too_long
    }
}

fn server_name(content: &[u8]) -> Result<Option<String>, Unread> {
    let broken = Invalid("the list of server names is cut");
    let mut names = Reader(Reader(content).vector16().ok_or(broken)?);
    while let Some(kind) = names.take(1) {
        let name = names.vector16().ok_or(broken)?;
        if *kind == [HOST_NAME] {
            return host(name).map(Some);
        }
    }
    Ok(None)
}

/// The server that a Minecraft Java client names, in lower case; `None` if it names none, or is older
/// than 1.7.
///
/// # Errors
/// `Incomplete` while the bytes are the beginning of a handshake.
pub fn of_minecraft(bytes: &[u8]) -> Result<Option<String>, Unread> {
    match bytes {
        // The ping of clients before 1.7; for others it would be the length of an unknown packet.
        [0xfe, 0x01, 0xfa, ..] => return Ok(None),
        [] | [0xfe] | [0xfe, 0x01] => return Err(Incomplete),
        _ => {}
    }
    let mut reader = Reader(bytes);
    let length = reader.variable()?;
    if length > MAX_HANDSHAKE {
        return Err(Invalid("the packet is too long for a handshake"));
    }
    let whole = reader.0.len() >= length;
    let packet = reader.0.get(..length).unwrap_or(reader.0);
    match handshake(packet) {
        Err(Incomplete) if whole => Err(Invalid("the handshake is cut")),
        // The rest has to be there as well, or it is none.
        Ok(_) if !whole => Err(Incomplete),
        read => read,
    }
}

/// Bytes of a handshake: an address has at most 255 characters, and what mods add to it.
const MAX_HANDSHAKE: usize = 2 * 1024;
const HANDSHAKE_PACKET: usize = 0;

fn handshake(packet: &[u8]) -> Result<Option<String>, Unread> {
    let mut reader = Reader(packet);
    if reader.variable()? != HANDSHAKE_PACKET {
        return Err(Invalid("the packet is no handshake"));
    }
    // The version of the protocol.
    reader.variable()?;
    let length = reader.variable()?;
    let address = reader.take(length).ok_or(Incomplete)?;
    // The port, and what the client wants.
    reader.take(2).ok_or(Incomplete)?;
    reader.variable()?;
    if !reader.0.is_empty() {
        return Err(Invalid("something follows the handshake"));
    }
    // Mods put what they have to say behind a zero.
    let name = address.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    host(name).map(Some)
}

/// A name, or an address, in lower case and without the final dot.
fn host(bytes: &[u8]) -> Result<String, Unread> {
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    let is_host = (1..=255).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte));
    let text = str::from_utf8(bytes).ok().filter(|_| is_host);
    let text = text.ok_or(Invalid("the name of the server is no host name"))?;
    Ok(text.to_ascii_lowercase())
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        let two = self.take(2)?.first_chunk()?;
        Some(u16::from_be_bytes(*two))
    }

    /// As many bytes as the one before them says.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(length.into())
    }

    /// A number in groups of seven bits, the lowest first, in at most five bytes.
    fn variable(&mut self) -> Result<usize, Unread> {
        let mut number = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.take(1).and_then(<[u8]>::first).ok_or(Incomplete)?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number as usize);
            }
        }
        Err(Invalid("a number of more than five bytes"))
    }
}

#[cfg(test)]
mod tests;
