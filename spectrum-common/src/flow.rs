//! TCP flows that have proved themselves, in a set-associative array.
//!
//! A flow gets an entry by proof only: a socket that holds it, or a handshake's answer to a SYN
//! cookie. An entry is good for a while and for the policy under which it was made.

/// Flows in a set: 64 bytes, a line of a processor's cache.
pub const WAYS: usize = 4;

/// Sets in the array `flows`; a power of two.
pub const SETS: u32 = 65_536;

/// Seconds after which a flow has to prove itself again, so that a connection that has ended does
/// not stay open to forged segments.
pub const MAX_AGE_SECONDS: u32 = 10;

/// One flow. Each word is written at once, by whichever CPU has the proof.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The slot of the app, below 48 bits of the flow's hash.
    pub owner: u64,
    /// [`Settings::policy_generation`](crate::settings::Settings::policy_generation) at the time of the
    /// proof, above the low 32 bits of the jiffies of then. 0 = unused.
    pub proof: u64,
}

/// The flows whose hash leads to the same set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSet {
    pub flows: [Flow; WAYS],
}
