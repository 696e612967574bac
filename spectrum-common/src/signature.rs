//! Signatures: what packets of an attack share, as rules that are found by tuple-space search.
//!
//! Rules that look at the same bits share a [`SignatureMask`]. A packet is masked once for each
//! mask in use and looked up in a table of masked keys, so that what it costs depends on the masks
//! that its app uses and not on the number of rules.

use crate::app::RateLimit;

/// Masks that one app may use, those of host-wide rules included.
pub const MASKS_PER_APP: usize = 16;

/// Rules in a set of the table.
pub const WAYS: usize = 4;

/// Sets in the table `signatures`; a power of two.
pub const SETS: u32 = 4096;

/// Bytes of payload that a rule can look at, from an offset of its mask.
pub const WINDOW: usize = 16;

/// What rules look at, packed into words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fields {
    /// From the high bits: slot of the app (16), source port (16), destination port (16), IP
    /// protocol (8), IP version (8).
    pub endpoint: u64,
    /// From the high bits: length of the IP packet (16), TCP window (16), TTL or hop limit (8), TCP
    /// flags (8), length of the TCP header in words of 4 bytes (8), 1 for a first fragment (8).
    pub header: u64,
    /// The window of the payload, first byte highest.
    pub payload: [u64; 2],
}

/// The bits that some rules look at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignatureMask {
    pub fields: Fields,
    /// Where in the payload its window begins.
    pub payload_offset: u32,
    /// Bytes of payload that a packet must have; 0: the payload is not looked at.
    pub payload_end: u32,
}

/// The rules whose masked key has the same hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureSet {
    /// Part of the hash of each rule's key; 0 = unused.
    pub tags: [u32; WAYS],
    /// The rules, as indexes of the map `sig_rules`.
    pub rules: [u32; WAYS],
}

/// One rule. An unused element is all zero.
///
/// An element is never changed into another rule while a set leads to it, and a rule is compared
/// whole: whoever reads a set that is being written meets a rule that does not match, no more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureRule {
    /// Every other bit is zero.
    pub key: Fields,
    /// Index in the map `sig_masks`.
    pub mask: u32,
    /// Of several rules that match, the lowest comes first.
    pub order: u32,
    /// [`action`]; 0 = unused.
    pub action: u32,
    /// [`origin`].
    pub origin: u32,
    /// [`mode`](crate::app::mode).
    pub mode: u32,
    /// First and last length of the IP packet, beyond what the key says.
    pub length: [u16; 2],
    /// First and last source port.
    pub source_port: [u16; 2],
    /// First and last destination port.
    pub destination_port: [u16; 2],
    /// First and last TTL or hop limit.
    pub hops: [u8; 2],
    /// The number of the question ([`geo`](crate::geo)) whether the source is in one of the rule's
    /// countries, or of [`ANYWHERE`](crate::geo::ANYWHERE).
    pub countries: u8,
    /// The same for autonomous systems.
    pub asns: u8,
    pub reserved: [u8; 4],
    /// The rule has no effect from here on, in nanoseconds of `CLOCK_MONOTONIC_COARSE`; 0 = never
    /// expires.
    pub expires_ns: u64,
    /// Of [`action::RATE_LIMIT`]; its own mode is not looked at.
    pub rate: RateLimit,
}

/// What [`SignatureRule::action`] can be.
pub mod action {
    pub const DROP: u32 = 1;
    /// What exceeds the rate is dropped; the rest goes on.
    pub const RATE_LIMIT: u32 = 2;
    /// The packet passes, and no later rule is asked.
    pub const PASS: u32 = 3;
}

/// Who made a rule: what [`SignatureRule::origin`] can be.
pub mod origin {
    /// The documents: reason `custom_rule`.
    pub const DOCUMENT: u32 = 1;
    /// The mitigation engine: reason `signature`.
    pub const MITIGATION: u32 = 2;
}

/// What a rule has matched; one instance per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureHits {
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
    /// Packets over the rate of the rule, for those that limit one.
    pub limited: u64,
}
