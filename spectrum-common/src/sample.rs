//! Samples of all packets, passed and dropped: what the mitigation engine learns from.

/// Bytes of a frame that a sample holds: the longest usual headers, and the beginning of the
/// payload.
pub const BYTES: usize = 128;

/// Samples that a CPU may send per second.
pub const PER_SECOND: u32 = 4096;

/// One packet, as a record of the ring buffer `samples`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
    /// Packets of the app that the CPU has met since its last sample, this one included: what its
    /// last sample stands for.
    pub weight: u32,
    /// The app's slot.
    pub app: u32,
    /// [`mode`](crate::app::mode) of the rule that objected: `OFF` (none did), `MONITOR` (it passed
    /// all the same) or `ENFORCE` (dropped); or [`ANSWERED`].
    pub mode: u32,
    /// Number of a [`Reason`](crate::reason::Reason), if a rule objected.
    pub reason: u32,
    /// Bytes of the whole frame.
    pub length: u32,
    /// How many of them are in `bytes`.
    pub captured: u16,
    pub cpu: u16,
    pub bytes: [u8; BYTES],
}

/// When a CPU samples a packet of an app: the first of each tick of the clock, so that samples are
/// spread evenly over time and cost the same in every flood.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplePace {
    /// Low bits of the jiffies at which the last sample was taken.
    pub tick: u32,
    /// Packets since then.
    pub since: u32,
}

/// What stands in [`Sample::mode`] for a SYN that is answered with a cookie.
pub const ANSWERED: u32 = crate::app::mode::ENFORCE + 1;
