//! SYN floods: until when SYNs may be answered with cookies, and what the answers say.

/// Seconds after which the kernel no longer takes cookies at a listener that has neither sent one
/// itself nor been marked again (`TCP_SYNCOOKIE_VALID`: two minutes), less some to spare.
pub const MARK_SECONDS: u32 = 100;

/// How the host's own TCP shakes hands, so that a cookie says the same: the single element of the
/// map `handshake`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Jiffies at which all listeners were last marked as having overflowed, so that the kernel takes
    /// answers to cookies there; 0 = never. Written by the program that marks them.
    pub marked: u64,
    /// [`ability`] bits.
    pub abilities: u32,
    /// What the host's sockets can receive at first, in bytes; the advertised window is the largest
    /// multiple of the segment size within it.
    pub window: u32,
    /// Window scale of the host's sockets: the kernel takes it for granted that a cookie had it.
    pub window_scale: u32,
    /// Largest segment over IPv4, by the interface's MTU.
    pub segment_ipv4: u32,
    /// Largest segment over IPv6.
    pub segment_ipv6: u32,
    /// Time to live, or hop limit, of answers.
    pub hop_limit: u32,
}

/// Bits of [`Handshake::abilities`].
pub mod ability {
    /// Cookies may be sent at all.
    pub const ANSWER: u32 = 1 << 0;
    /// `net.ipv4.tcp_sack`.
    pub const SACK: u32 = 1 << 1;
    /// `net.ipv4.tcp_window_scaling`.
    pub const WINDOW_SCALE: u32 = 1 << 2;
    /// `net.ipv4.tcp_ecn`, for connections that come in.
    pub const ECN: u32 = 1 << 3;
    /// `net.ipv4.tcp_timestamps`, without a random offset.
    pub const TIMESTAMPS: u32 = 1 << 4;
}

/// An element of what the program `mark_listeners` is given in place of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    pub address: crate::address::Address,
    pub port: u32,
    pub reserved: u32,
}

/// Listeners that one run of `mark_listeners` takes.
pub const LISTENERS_AT_ONCE: usize = 128;
