//! Custom rules: the operator's own signatures.

use std::ops::RangeInclusive;

use super::{app::Transport, protection::Mode, words::words};
use crate::geo::{Country, Question};

/// One table `[[protection.rules]]`, of the host or of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in its document. Of the rules that match a packet, the one with the lowest id comes
    /// first.
    pub id: u32,
    /// What the operator calls it.
    pub name: Option<String>,
    pub conditions: Conditions,
    pub action: Action,
    /// Never `Monitor` for a rule that passes.
    pub mode: Mode,
}

/// What a packet must be like: all of it. At least one condition is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Only of rules that hold for all apps.
    pub transport: Option<Transport>,
    pub family: Option<Family>,
    /// Bytes of the IP packet.
    pub length: Option<RangeInclusive<u16>>,
    /// TTL or hop limit.
    pub ttl: Option<RangeInclusive<u8>>,
    pub source_port: Option<RangeInclusive<u16>>,
    /// On the edge.
    pub port: Option<RangeInclusive<u16>>,
    pub flags: Option<Flags>,
    pub payload: Option<Payload>,
    /// Where the source is, if not empty; sorted.
    pub countries: Vec<Country>,
    /// Autonomous systems, if not empty; sorted.
    pub asns: Vec<u32>,
}

impl Conditions {
    /// What they ask about the source's country.
    pub fn asked_country(&self) -> Option<Question> {
        (!self.countries.is_empty()).then(|| Question::countries(&self.countries))
    }

    /// What they ask about its autonomous system.
    pub fn asked_asn(&self) -> Option<Question> {
        (!self.asns.is_empty()).then(|| Question::asns(&self.asns))
    }
}

/// TCP flags, bit by bit as in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub set: u8,
    pub clear: u8,
}

impl Flags {
    /// The names of the bits, the lowest first.
    pub const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

    /// As documents write them: `syn`, `!ack`.
    pub fn words(self) -> impl Iterator<Item = String> {
        let bits = Self::NAMES.iter().zip(0..);
        bits.filter_map(
            move |(name, bit)| match (self.set >> bit & 1, self.clear >> bit & 1) {
                (1, _) => Some((*name).to_owned()),
                (_, 1) => Some(format!("!{name}")),
                (_, _) => None,
            },
        )
    }
}

/// Bytes of the payload of TCP or UDP: 1 to [`WINDOW`](spectrum_common::signature::WINDOW).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub offset: u16,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

words!(Family {
    Ipv4 = "ipv4",
    Ipv6 = "ipv6",
});

/// What a rule does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Drop,
    /// Of all the packets that it matches, so many go on.
    RateLimit {
        per_second: u32,
        burst: u32,
    },
    /// No later rule is asked.
    Pass,
}

/// The words for an [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    Drop,
    RateLimit,
    Pass,
}

words!(ActionKind {
    Drop = "drop",
    RateLimit = "rate-limit",
    Pass = "pass",
});

impl Action {
    pub const fn kind(self) -> ActionKind {
        match self {
            Self::Drop => ActionKind::Drop,
            Self::RateLimit { .. } => ActionKind::RateLimit,
            Self::Pass => ActionKind::Pass,
        }
    }
}
