//! UDP flows that the program carries past the proxy: where they go, and what they have carried.
//!
//! A flow is one direction of a session: from a client to an edge address, or from an origin to the
//! port that the proxy's socket of the session holds. The daemon writes all of it through shared
//! memory, but for what is counted.

use crate::address::Address;

/// Flows that there may be: two for each session.
pub const FLOWS: usize = 65_536;

/// Flows in a line: 64 bytes, a line of a processor's cache.
pub const WAYS: usize = 8;

/// Lines in the array `forward_lines`; a power of two. Twice as many places as flows, so that a line
/// hardly ever overflows.
pub const LINES: u32 = 16_384;

/// Interfaces that the program may send to.
pub const PORTS: usize = 64;

/// How often a datagram of each flow is left to the proxy. What it sends makes the kernel ask whether a
/// neighbour is still there, which it does not for what is carried.
pub const RENEWAL_NS: u64 = 30_000_000_000;

/// How long the program goes on after the daemon has last said that it is there, in nanoseconds.
pub const LEASE_NS: u64 = 3_000_000_000;

/// Where the flows whose hash leads to the same line are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardLine {
    /// Half of the flow's hash above its index in the map `forwards`, plus 1. 0 = unused.
    pub entries: [u64; WAYS],
}

/// One flow. What it carries is written by whichever CPU meets it; all else before an entry of a
/// [`ForwardLine`] leads to it, and a second at the earliest after none did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Whose datagrams these are, and where they arrive.
    pub source: Address,
    pub destination: Address,
    /// What they get instead.
    pub new_source: Address,
    pub new_destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub new_source_port: u16,
    pub new_destination_port: u16,
    /// Index of the interface by which they have to come; 0 if it may be any.
    pub interface: u32,
    /// 0.
    pub unused: u32,
    /// When one was last left to the proxy so that the kernel looks after its neighbours, by the clock of
    /// `last_ns`.
    pub renewed_ns: u64,
    /// Datagrams carried.
    pub packets: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// When the last one was, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub last_ns: u64,
    /// 0: fills the second line of the processor's cache.
    pub spare: [u64; 2],
}

/// The single element of the map `forward_lease`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardLease {
    /// Until when flows are carried, in nanoseconds of `CLOCK_MONOTONIC_COARSE`; 0 if there are none.
    /// The daemon moves it on: without one, nobody holds the ports of the sessions.
    pub until_ns: u64,
}

/// Datagrams of known flows by what became of them. All but the first are left to the proxy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardCounters {
    pub carried: u64,
    /// In several buffers, with a VLAN tag, IP options or extension headers.
    pub odd_shape: u64,
    /// With a checksum that somebody else was to fill in, as virtual interfaces hand them over; or,
    /// over IPv6, with none.
    pub unfinished: u64,
    /// By another interface than they have to come.
    pub astray: u64,
    /// Every so often, see [`RENEWAL_NS`].
    pub renewal: u64,
    /// With a TTL or hop limit that ends here.
    pub expired: u64,
    /// The kernel has no route there that forwards.
    pub no_route: u64,
    /// Too big for the route.
    pub too_big: u64,
    /// The next hop's link address is not known, or no longer.
    pub no_neighbour: u64,
    /// The route leaves by an interface that the program may not send to.
    pub no_port: u64,
}
