//! SYN floods: when an app's SYNs are answered with cookies, and what the answers say.

/// When the SYNs of an app are answered: what [`App::challenge`](crate::app::App::challenge) can be.
pub mod challenge {
    /// Never: every SYN goes to the kernel.
    pub const NEVER: u32 = 0;
    /// While the app gets more SYNs per second than it should.
    pub const AUTO: u32 = 1;
    pub const ALWAYS: u32 = 2;
}

/// Seconds without a flood after which SYNs go to the kernel again.
pub const QUIET_SECONDS: u32 = 10;

/// How many SYNs an app gets, by slot in the map `challenges`. Written without locks by whichever
/// CPU has the SYN: a count may miss a few.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Jiffies at which the current second began.
    pub second_began: u64,
    /// SYNs in the current second.
    pub syns: u64,
    /// Jiffies since when SYNs have been answered; 0 = they are not.
    pub since: u64,
    /// Jiffies at which there were last so many SYNs in a second that they go on to be answered.
    pub flooded: u64,
}

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
