//! What the data plane knows of an app.

use crate::ceiling::Ceiling;
use crate::signature::MASKS_PER_APP;

/// The slot of packets that belong to no app.
pub const HOST_SLOT: u32 = 0;

/// What a rule does with a packet that it matches.
pub mod mode {
    /// The rule is not evaluated.
    pub const OFF: u32 = 0;
    /// The packet passes and is counted as monitored.
    pub const MONITOR: u32 = 1;
    /// The packet is dropped.
    pub const ENFORCE: u32 = 2;
}

/// A per-source limit as the generic cell rate algorithm needs it (ITU-T I.371), in scaled ticks:
/// jiffies shifted left by [`TICK_SHIFT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Scaled ticks that one packet costs: `(ticks_per_second << TICK_SHIFT) / rate`.
    pub interval: u64,
    /// Scaled ticks that a source may be ahead of its rate: `interval * (burst - 1)`.
    pub tolerance: u64,
    /// [`mode`].
    pub mode: u32,
    /// The limit as the operator wrote it, for those who read the map.
    pub per_second: u32,
}

/// See [`RateLimit`].
pub const TICK_SHIFT: u32 = 20;

/// One app, at its slot. An unused slot is all zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// The 128 bits of the app's id; zero for an unused slot. At
    /// [`HOST_SLOT`] it is zero as well.
    pub id: [u8; 16],
    /// [`mode`] of the blocklist: entries of the global scope and of the app's own.
    pub blocklist: u32,
    /// [`mode`] of the allowlist; `OFF` if the app has none.
    pub allowlist: u32,
    /// [`mode`] of the reflector rule (UDP).
    pub reflectors: u32,
    /// Index of the set of reflector ports in the map `reflectors`.
    pub reflector_set: u32,
    /// [`mode`] of the fragment rule.
    pub fragments: u32,
    /// 1 if the access maps hold entries of this app's own scope.
    pub has_access_entries: u32,
    /// [`mode`] of the rule for TCP that belongs to no connection.
    pub out_of_state: u32,
    /// Such segments per second above which it applies.
    pub out_of_state_above: u32,
    /// 1 if SYNs may be answered with cookies.
    pub challenge: u32,
    /// SYNs per second above which they are.
    pub challenge_above: u32,
    /// Packets per second and source (IPv6: per /64).
    pub packet_rate: RateLimit,
    /// TCP SYNs per second and source (IPv6: per /64).
    pub syn_rate: RateLimit,
    /// Indexes in the map `sig_masks`: the masks that signatures of this app, or of all apps, use.
    pub masks: [u8; MASKS_PER_APP],
    /// How many of [`App::masks`] are in use; 0 costs a packet nothing.
    pub mask_count: u32,
    /// Who asks where a source is: [`asked_by`](crate::geo::asked_by). 0 costs a packet nothing.
    pub geo: u32,
    /// On all sources together.
    pub ceiling: Ceiling,
    /// The id of the TCP app with which a source has to hold a connection.
    pub session_app: [u8; 16],
    /// [`mode`] of that rule (UDP).
    pub session: u32,
    /// [`mode`] of the rule on sizes of datagrams (UDP).
    pub datagrams: u32,
    /// Bytes of payload that a datagram may have, at least and at most.
    pub datagram_least: u32,
    pub datagram_most: u32,
    /// [`mode`] of the rule on countries.
    pub countries: u32,
    /// The question whether a source is in a country that the app refuses: see
    /// [`geo`](crate::geo).
    pub refused_countries: u32,
    /// [`mode`] of the rule on autonomous systems.
    pub asns: u32,
    /// The question whether a source is in a system that the app refuses.
    pub refused_asns: u32,
    /// 1 if datagrams of its sessions may be carried past the proxy (UDP).
    pub forwards: u32,
    /// 0: keeps what comes after this app on a multiple of 8 bytes.
    pub unused: u32,
}
