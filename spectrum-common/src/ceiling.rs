//! Ceilings: bounds on what an app gets from all sources together.
//!
//! Each bound is a generic cell rate (ITU-T I.371) that all CPUs share. A CPU takes from it what
//! some packets cost at once, so that CPUs seldom meet in one cache line.

/// The bounds of one app. All zero if it has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// [`mode`](crate::app::mode); `OFF` if there is no bound at all.
    pub mode: u32,
    pub reserved: u32,
    /// On packets.
    pub packets: Bound,
    /// On bytes of whole frames.
    pub bytes: Bound,
    /// On new flows: SYNs, and datagrams of sources that have not proved to be real.
    pub flows: Bound,
}

/// A bound on packets, bytes or flows per second. Times are scaled ticks: jiffies shifted left by
/// [`TICK_SHIFT`](crate::app::TICK_SHIFT).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// What `1 << `[`UNIT_SHIFT`] packets, bytes or flows cost; 0 = unbounded.
    pub interval: u64,
    /// How far the app may be ahead of its rate. Sources that have not proved to be real may take
    /// half of this: the other half is there for those that have.
    pub tolerance: u64,
    /// The bound as the operator wrote it, for those who read the map.
    pub per_second: u64,
}

/// See [`Bound::interval`]: a single byte costs less than a scaled tick.
pub const UNIT_SHIFT: u32 = 16;

/// What one app has used of its bounds: when the next packet, byte or flow is due. An element of
/// the map `ceilings`, alone on its cache line, and written by all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CeilingUse {
    pub packets_due: u64,
    pub bytes_due: u64,
    pub flows_due: u64,
    pub reserved: [u64; 5],
}

/// What one CPU has taken in advance and not used yet. An element of the map `ceiling_shares`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CeilingShare {
    pub packets: u64,
    pub bytes: u64,
    pub flows: u64,
}
