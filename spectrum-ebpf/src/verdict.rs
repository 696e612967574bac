//! What is done with a packet.

use spectrum_common::{
    app::{HOST_SLOT, mode},
    reason::Reason,
    sample::ANSWERED,
};

/// The end of a packet: one cell of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The app that the verdict is counted at, or [`HOST_SLOT`].
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
    /// A SYN that is answered with a cookie; no rule enforced against it.
    Answered,
}

impl Verdict {
    pub const PASSED: Self = Self {
        slot: HOST_SLOT,
        outcome: Outcome::Passed,
    };

    /// Itself as a number, for functions that can return nothing else.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        let (mode, reason) = match self.outcome {
            Outcome::Passed => (mode::OFF, 0),
            Outcome::Monitored(reason) => (mode::MONITOR, reason as u32),
            Outcome::Dropped(reason) => (mode::ENFORCE, reason as u32),
            Outcome::Answered => (ANSWERED, 0),
        };
        (self.slot as u64) << 32 | (reason as u64) << 8 | mode as u64
    }

    /// The verdict of [`Verdict::to_bits`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of a number")]
    pub fn from_bits(bits: u64) -> Self {
        let outcome = match (u32::from(bits as u8), Reason::try_from((bits as u32) >> 8)) {
            (mode::MONITOR, Ok(reason)) => Outcome::Monitored(reason),
            (mode::ENFORCE, Ok(reason)) => Outcome::Dropped(reason),
            (ANSWERED, _) => Outcome::Answered,
            (_, _) => Outcome::Passed,
        };
        Self {
            slot: (bits >> 32) as u32,
            outcome,
        }
    }
}

impl Outcome {
    /// What a rule did: its reason, and its [`mode`]. `None` if no rule matched.
    #[inline(always)]
    pub const fn objection(self) -> Option<(Reason, u32)> {
        match self {
            Self::Passed | Self::Answered => None,
            Self::Monitored(reason) => Some((reason, mode::MONITOR)),
            Self::Dropped(reason) => Some((reason, mode::ENFORCE)),
        }
    }
}
