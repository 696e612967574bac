//! What is done with a packet.

use spectrum_common::{app::mode, reason::Reason};

/// The end of a packet: one cell of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The app that the verdict is counted at, or
    /// [`HOST_SLOT`](spectrum_common::app::HOST_SLOT).
    pub slot: u32,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No rule had an objection.
    Passed,
    /// Passed, though a rule in mode `monitor` would have dropped it: the first such rule.
    Monitored(Reason),
    Dropped(Reason),
}

impl Outcome {
    /// What a rule did: its reason, and its [`mode`]. `None` if no rule matched.
    #[inline(always)]
    pub fn objection(self) -> Option<(Reason, u32)> {
        match self {
            Self::Passed => None,
            Self::Monitored(reason) => Some((reason, mode::MONITOR)),
            Self::Dropped(reason) => Some((reason, mode::ENFORCE)),
        }
    }
}
