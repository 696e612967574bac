//! Per-source state in a set-associative array.
//!
//! The array has a fixed size and is never filled by insertion: a source that is not found takes
//! the place of the source of its set that was seen longest ago, where one that has sent much counts
//! as seen later. A flood from random sources therefore costs the same as one from a single source,
//! and can push out limits and counters of idle sources but nothing that protects anyone, nor those
//! that send most.

use crate::address::Address;

/// Sources in a set.
pub const WAYS: usize = 4;

/// Sets in the array `sources`; a power of two.
pub const SETS: u32 = 16_384;

/// One source at one app. All fields are written without locks by whichever CPU has the packet:
/// a total may miss a packet when a source is replaced under it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The source; for IPv6 its /64, with the other bits zero.
    pub address: Address,
    /// The app's slot.
    pub app: u32,
    pub reserved: u32,
    pub packets: u64,
    pub bytes: u64,
    /// Packets over a limit, dropped or monitored.
    pub limited: u64,
    /// When the next packet is due, in scaled ticks (see [`RateLimit`](crate::app::RateLimit)).
    pub packet_due: u64,
    /// When the next SYN is due.
    pub syn_due: u64,
}

/// The sources whose hash leads to the same set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// Part of the hash of each source; 0 = unused.
    pub tags: [u32; WAYS],
    /// Low bits of the jiffies up to which each source has precedence over one that was seen later.
    pub kept_until: [u32; WAYS],
    /// Up to the end of the processor's line, so that each source lies in one.
    pub reserved: [u64; 4],
    pub sources: [Source; WAYS],
}
