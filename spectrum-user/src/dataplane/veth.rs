//! The other end of a virtual Ethernet pair, as rtnetlink(7) tells of it.
//!
//! What XDP sends out of one end arrives only where the other end polls its ring, which it does
//! while a native XDP program is attached to it (`veth_xdp_xmit`). That end lies in another
//! namespace as a rule; the kernel answers questions about it all the same, to those who may
//! administer it.

use std::io;

use nix::{net::if_::if_nametoindex, sys::socket::SockProtocol};

use super::netlink::{self, attribute, attributes, bytes_at};

// linux/rtnetlink.h
const INTERFACE_INFO: usize = 16;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;

/// Attributes of a link (linux/if_link.h).
mod kind {
    pub(super) const LINK: u16 = 5;
    pub(super) const LINK_NAMESPACE: u16 = 37;
    pub(super) const XDP: u16 = 43;
    pub(super) const TARGET_NAMESPACE: u16 = 46;
}

/// In [`kind::XDP`]: the id of the program that is attached in the driver, if there is one.
const XDP_DRIVER_PROGRAM: u16 = 5;

/// Does the other end of the pair that `interface` belongs to take what XDP sends here?
///
/// # Errors
/// There is no such interface, or the other end is hidden from this process.
pub(super) fn peer_receives(interface: &str) -> io::Result<bool> {
    let here = Link::ask(if_nametoindex(interface)?, None)?;
    let index = here.number(kind::LINK);
    let index = index.ok_or_else(|| io::Error::other("the kernel names no other end"))?;
    // Absent if both ends are in this namespace.
    let namespace = here.number(kind::LINK_NAMESPACE);
    Ok(Link::ask(index, namespace)?.has_native_program())
}

/// The attributes of a link.
struct Link(Vec<u8>);

impl Link {
    /// Asks for a link of this namespace, or of the one with this id.
    fn ask(index: u32, namespace: Option<u32>) -> io::Result<Self> {
        // `struct ifinfomsg`, and one attribute.
        let mut body = [0; INTERFACE_INFO].to_vec();
        body.splice(4..8, index.to_ne_bytes());
        if let Some(namespace) = namespace {
            body.extend(attribute(kind::TARGET_NAMESPACE, &namespace.to_ne_bytes()));
        }
        let mut link = netlink::ask(SockProtocol::NetlinkRoute, GET_LINK, &body, NEW_LINK)?;
        Ok(Self(link.split_off(INTERFACE_INFO.min(link.len()))))
    }

    fn number(&self, wanted: u16) -> Option<u32> {
        let value = netlink::find(&self.0, wanted)?;
        bytes_at(value, 0).map(u32::from_ne_bytes)
    }

    fn has_native_program(&self) -> bool {
        let xdp = netlink::find(&self.0, kind::XDP);
        xdp.is_some_and(|xdp| attributes(xdp).any(|(kind, _)| kind == XDP_DRIVER_PROGRAM))
    }
}
