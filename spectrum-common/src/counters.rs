//! The cells in which every packet ends, exactly once.

use crate::{reason::ByReason, sample::SamplePace};

/// Monotonic totals.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    /// Bytes of the whole frame, link header included.
    pub bytes: u64,
}

/// The counters of one app (or, at [`HOST_SLOT`](crate::app::HOST_SLOT), of packets that belong
/// to no app); one instance per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppCounters {
    /// Passed, and no rule had an objection.
    pub passed: Counter,
    /// SYNs that were answered with a cookie in place of the app.
    pub challenged: Counter,
    /// Passed, though a rule in mode `monitor` would have dropped it; counted at the first such
    /// rule. All packets that passed are `passed` plus these.
    pub monitored: ByReason<Counter>,
    /// Dropped.
    pub dropped: ByReason<Counter>,
    /// When the next sample is taken.
    pub pace: SamplePace,
}
