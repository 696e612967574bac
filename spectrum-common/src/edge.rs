//! Which packets are ours, and whose.

use crate::address::Address;

/// An edge address: where to find the apps that listen on it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Index in the map `ports` of the page directory of TCP; 0 = no app.
    pub tcp_directory: u32,
    /// The same for UDP.
    pub udp_directory: u32,
    /// [`mode`](crate::app::mode) for TCP fragments without ports (all but the first of a
    /// datagram): the most lenient of the apps on this address, since their app cannot be known.
    pub tcp_fragments: u32,
    /// The same for UDP.
    pub udp_fragments: u32,
}

/// Edge addresses in a set.
pub const EDGE_WAYS: usize = 4;

/// The edge addresses whose hash leads to the same set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeSet {
    /// An unused place is zero.
    pub addresses: [Address; EDGE_WAYS],
    pub edges: [Edge; EDGE_WAYS],
}

/// Ports in a page, and pages in a directory.
pub const PAGE_SIZE: usize = 256;

/// A page of the two-level table that leads from a port to an app's slot.
///
/// A directory holds, at the high byte of the port, the index of a page; the page holds, at the
/// low byte, the slot. Index 0 is an empty page and slot 0 is "no app".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPage {
    pub entries: [u16; PAGE_SIZE],
}

impl Default for PortPage {
    fn default() -> Self {
        Self {
            entries: [0; PAGE_SIZE],
        }
    }
}

/// A set of UDP source ports, one bit each.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSet {
    /// Port `p` is bit `p % 64` of word `p / 64`.
    pub words: [u64; 1024],
}

impl Default for PortSet {
    fn default() -> Self {
        Self { words: [0; 1024] }
    }
}
