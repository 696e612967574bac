//! One question to the kernel, and its answer (netlink(7)).

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

// linux/netlink.h
const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// Flags in the kind of an attribute, beside its number.
const KIND: u16 = 0x3fff;

/// Asks a question of the given kind, and returns what the answer has after its header, which is of
/// the kind `expected`.
///
/// # Errors
/// What the kernel says.
pub(super) fn ask(
    protocol: SockProtocol,
    kind: u16,
    body: &[u8],
    expected: u16,
) -> io::Result<Vec<u8>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    let socket = socket.as_raw_fd();
    send(socket, &request(kind, body), MsgFlags::empty())?;
    // The kernel answers before `send` returns; the first look is at how long the answer is.
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    let mut answer = vec![0; recv(socket, &mut [], look)?];
    recv(socket, &mut answer, MsgFlags::empty())?;
    match bytes_at(&answer, 4).map(u16::from_ne_bytes) {
        Some(ERROR) => {
            let error = bytes_at(&answer, HEADER).map(i32::from_ne_bytes);
            Err(io::Error::from_raw_os_error(-error.unwrap_or_default()))
        }
        Some(kind) if kind == expected => Ok(answer.split_off(HEADER)),
        _ => Err(io::Error::other("the kernel answers something else")),
    }
}

/// `struct nlmsghdr`, and what follows.
fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number and port: one question per socket needs neither.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// An attribute, padded to a word.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes and their values.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes_at(bytes, 0)?));
        let kind = u16::from_ne_bytes(bytes_at(bytes, 2)?) & KIND;
        let value = bytes.get(4..length)?;
        // Aligned to words; the last one may end without padding.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of an attribute that is there.
pub(super) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let (_, value) = attributes(bytes).find(|(kind, _)| *kind == wanted)?;
    Some(value)
}

pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others() {
        let mut bytes = attribute(7, b"abc");
        bytes.extend(attribute(9, &[1, 2, 3, 4]));
        assert_eq!(bytes.len(), 16);
        assert_eq!(find(&bytes, 9), Some(&[1, 2, 3, 4][..]));
        assert_eq!(find(&bytes, 7), Some(&b"abc"[..]));
        assert_eq!(find(&bytes, 8), None);
        bytes.truncate(6);
        assert_eq!(find(&bytes, 7), None, "cut short");
    }
}
