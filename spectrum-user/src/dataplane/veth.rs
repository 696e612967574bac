//! The other end of a virtual Ethernet pair, as rtnetlink(7) tells of it.
//!
//! What XDP sends out of one end arrives only where the other end polls its ring, which it does
//! while a native XDP program is attached to it (`veth_xdp_xmit`). That end lies in another
//! namespace as a rule; the kernel answers questions about it all the same, to those who may
//! administer it.

use std::{io, os::fd::AsRawFd as _};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

// linux/netlink.h and linux/rtnetlink.h
const HEADER: usize = 16;
const INTERFACE_INFO: usize = 16;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
/// Flags in the kind of an attribute, beside its number.
const KIND: u16 = 0x3fff;

/// Attributes of a link (linux/if_link.h).
mod attribute {
    pub(super) const LINK: u16 = 5;
    pub(super) const LINK_NAMESPACE: u16 = 37;
    pub(super) const XDP: u16 = 43;
    pub(super) const TARGET_NAMESPACE: u16 = 46;
}

/// In [`attribute::XDP`]: the id of the program that is attached in the driver, if there is one.
const XDP_DRIVER_PROGRAM: u16 = 5;

/// Does the other end of the pair that `interface` belongs to take what XDP sends here?
///
/// # Errors
/// There is no such interface, or the other end is hidden from this process.
pub(super) fn peer_receives(interface: &str) -> io::Result<bool> {
    let here = Link::ask(if_nametoindex(interface)?, None)?;
    let index = here.number(attribute::LINK);
    let index = index.ok_or_else(|| io::Error::other("the kernel names no other end"))?;
    // Absent if both ends are in this namespace.
    let namespace = here.number(attribute::LINK_NAMESPACE);
    Ok(Link::ask(index, namespace)?.has_native_program())
}

/// The attributes of a link.
struct Link(Vec<u8>);

impl Link {
    /// Asks for a link of this namespace, or of the one with this id.
    fn ask(index: u32, namespace: Option<u32>) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let socket = socket.as_raw_fd();
        send(socket, &request(index, namespace), MsgFlags::empty())?;
        // The kernel answers before `send` returns; the first look is at how long the answer is.
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let mut answer = vec![0; recv(socket, &mut [], look)?];
        recv(socket, &mut answer, MsgFlags::empty())?;
        match bytes_at(&answer, 4).map(u16::from_ne_bytes) {
            Some(NEW_LINK) => Ok(Self(answer.split_off(HEADER + INTERFACE_INFO))),
            Some(ERROR) => {
                let error = bytes_at(&answer, HEADER).map(i32::from_ne_bytes);
                Err(io::Error::from_raw_os_error(-error.unwrap_or_default()))
            }
            _ => Err(io::Error::other("the kernel answers something else")),
        }
    }

    fn number(&self, wanted: u16) -> Option<u32> {
        let (_, value) = attributes(&self.0).find(|(kind, _)| *kind == wanted)?;
        bytes_at(value, 0).map(u32::from_ne_bytes)
    }

    fn has_native_program(&self) -> bool {
        let mut all = attributes(&self.0);
        let xdp = all.find(|(kind, _)| *kind == attribute::XDP);
        xdp.is_some_and(|(_, xdp)| attributes(xdp).any(|(kind, _)| kind == XDP_DRIVER_PROGRAM))
    }
}

/// `struct nlmsghdr`, `struct ifinfomsg`, and one attribute.
fn request(index: u32, namespace: Option<u32>) -> Vec<u8> {
    let mut body = [0; INTERFACE_INFO].to_vec();
    body.splice(4..8, index.to_ne_bytes());
    if let Some(namespace) = namespace {
        body.extend(8_u16.to_ne_bytes());
        body.extend(attribute::TARGET_NAMESPACE.to_ne_bytes());
        body.extend(namespace.to_ne_bytes());
    }
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GET_LINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number and port: one question per socket needs neither.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Attributes and their values.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes_at(bytes, 0)?));
        let kind = u16::from_ne_bytes(bytes_at(bytes, 2)?) & KIND;
        let value = bytes.get(4..length)?;
        // Aligned to words; the last one may end without padding.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
