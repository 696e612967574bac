//! Sources that have proved to be real: that somebody is there who gets what is sent to them.
//!
//! An array of a fixed size, filled by proof alone: no flood of forged sources can write to it. An
//! entry is one word, written and read at once, and a set is one cache line.
//!
//! The same layout holds the sources of TCP connections that are open now (map `tcp_sessions`),
//! where an entry lasts until it is removed.

/// Sources in a set.
pub const WAYS: usize = 8;

/// Sets in an array; a power of two.
pub const SETS: u32 = 32_768;

/// Low bits of an entry: the epoch of the last proof. The bits above are a part of the hash over
/// source and app that, with the place of the set, no two sources of one app share. 0 = unused.
pub const EPOCH_BITS: u32 = 16;

/// Seconds in an epoch: [`Settings::epoch`](crate::settings::Settings::epoch) counts them from the
/// host's start.
pub const EPOCH_SECONDS: u32 = 256;

/// Epochs for which a proof holds: an hour at least.
pub const PROOF_EPOCHS: u16 = 15;

/// The entries whose hash leads to the same set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProvenSet {
    pub entries: [u64; WAYS],
}
