//! Samples of what was dropped.

use crate::address::Address;

/// One packet that a rule dropped or would have dropped, as a record of the ring buffer `events`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropEvent {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
    /// Packets that this CPU dropped or monitored since its last event without sending one.
    pub suppressed: u64,
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u32,
    /// The app's slot.
    pub app: u32,
    /// Number of a [`Reason`](crate::reason::Reason).
    pub reason: u32,
    /// [`mode`](crate::app::mode) of the rule: `MONITOR` (it passed) or `ENFORCE` (dropped).
    pub mode: u32,
    /// Bytes of the whole frame.
    pub length: u32,
}

/// How many events a CPU has sent; one instance per CPU in the map `event_budget`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventBudget {
    /// Jiffies at which the current second began.
    pub window_start: u64,
    /// Events sent in the current second.
    pub sent_in_window: u64,
    /// Packets since the last event that sent none.
    pub suppressed: u64,
    /// Total of events sent.
    pub sent: u64,
    /// Total of packets that were not sampled because the budget was used up.
    pub skipped: u64,
    /// Total of events that found the ring buffer full.
    pub lost: u64,
}
