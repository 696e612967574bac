//! From what a rule says to the bits that the data plane compares.

use std::ops::RangeInclusive;

use spectrum_common::{
    app::RateLimit,
    signature::{Fields, SignatureMask, SignatureRule, WINDOW, action, origin},
};
use spectrum_ebpf::{limits, parse::protocol};

use crate::{
    config::{
        Mode, Transport,
        rule::{Action, Conditions, Family, Rule},
    },
    dataplane::{clock, plan::mode_number},
};

/// Orders of mitigations: they come after every custom rule.
const MITIGATIONS: u32 = 1 << 31;

/// What to look for, and what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub mask: SignatureMask,
    /// Without the index of its mask, unless it was read from the maps.
    pub rule: SignatureRule,
}

impl Signature {
    /// A custom rule, of the app at slot `scope` or (0) of the host.
    pub fn of_rule(rule: &Rule, scope: u32) -> Self {
        let (action, rate) = match rule.action {
            Action::Drop => (action::DROP, RateLimit::default()),
            Action::Pass => (action::PASS, RateLimit::default()),
            Action::RateLimit { per_second, burst } => {
                let ticks = clock::ticks_per_second();
                let mode = mode_number(rule.mode);
                let rate = limits::rate_limit(mode, per_second, burst, ticks);
                (action::RATE_LIMIT, rate)
            }
        };
        let mut signature = Self::matching(&rule.conditions, scope);
        signature.rule.order = rule.id << 1 | u32::from(scope != 0);
        signature.rule.action = action;
        signature.rule.origin = origin::DOCUMENT;
        signature.rule.mode = mode_number(rule.mode);
        signature.rule.rate = rate;
        signature
    }

    /// A mitigation of the app at slot `scope`: what `mask` leaves of a packet is `key`.
    /// `expires_ns` is on the clock of [`clock::monotonic_coarse_ns`]; 0 = never.
    pub fn of_mitigation(
        id: u32,
        scope: u32,
        (mask, key): (SignatureMask, Fields),
        mode: Mode,
        expires_ns: u64,
    ) -> Self {
        let any = Self::matching(&Conditions::default(), scope);
        let with = |scoped: Fields, more: Fields| Fields {
            endpoint: scoped.endpoint | more.endpoint,
            ..more
        };
        Self {
            mask: SignatureMask {
                fields: with(any.mask.fields, mask.fields),
                ..mask
            },
            rule: SignatureRule {
                key: with(any.rule.key, key),
                order: MITIGATIONS | id,
                action: action::DROP,
                origin: origin::MITIGATION,
                mode: mode_number(mode),
                expires_ns,
                ..any.rule
            },
        }
    }

    /// What a mitigation looks for, without the slot of its app.
    pub fn unscoped(&self) -> (SignatureMask, Fields) {
        let without_scope = |fields: Fields| Fields {
            endpoint: fields.endpoint & (u64::MAX >> 16),
            ..fields
        };
        let fields = without_scope(self.mask.fields);
        (
            SignatureMask {
                fields,
                ..self.mask
            },
            without_scope(self.rule.key),
        )
    }

    pub fn is_mitigation(&self) -> bool {
        self.rule.origin == origin::MITIGATION
    }

    /// What the conditions look for; without a place in the order, and without an action.
    fn matching(conditions: &Conditions, scope: u32) -> Self {
        let mut bits = Bits::default();
        let transport = match conditions.flags {
            Some(_) => Some(Transport::Tcp),
            None => conditions.transport,
        };
        bits.endpoint(48, 16, (scope != 0).then_some(scope.into()));
        bits.endpoint(32, 16, single(conditions.source_port.as_ref()));
        bits.endpoint(16, 16, single(conditions.port.as_ref()));
        bits.endpoint(8, 8, transport.map(protocol_number));
        bits.endpoint(0, 8, conditions.family.map(version_number));
        bits.header(48, 16, single(conditions.length.as_ref()));
        bits.header(24, 8, single(conditions.ttl.as_ref()));
        if let Some(flags) = conditions.flags {
            bits.mask.fields.header |= u64::from(flags.set | flags.clear) << 16;
            bits.key.header |= u64::from(flags.set) << 16;
        }
        if let Some(payload) = &conditions.payload {
            bits.payload(payload.offset, &payload.bytes);
        }
        Self {
            mask: bits.mask,
            rule: SignatureRule {
                key: bits.key,
                length: bounds(conditions.length.as_ref(), u16::MAX),
                source_port: bounds(conditions.source_port.as_ref(), u16::MAX),
                destination_port: bounds(conditions.port.as_ref(), u16::MAX),
                hops: bounds(conditions.ttl.as_ref(), u8::MAX),
                ..SignatureRule::default()
            },
        }
    }

    /// The slot of its app; 0 if it holds for all.
    pub fn scope(&self) -> u32 {
        u32::try_from((self.rule.key.endpoint & self.mask.fields.endpoint) >> 48)
            .unwrap_or_default()
    }

    /// The id of the custom rule or of the mitigation.
    pub fn id(&self) -> u32 {
        match self.rule.origin {
            origin::MITIGATION => self.rule.order & !MITIGATIONS,
            _ => self.rule.order >> 1,
        }
    }

    /// Whether `other` is the same rule, though its mode, its rate or its end may have changed.
    pub(super) fn is_same_rule(&self, other: &Self) -> bool {
        let identity = |signature: &Self| SignatureRule {
            mask: 0,
            action: 0,
            mode: 0,
            expires_ns: 0,
            rate: RateLimit::default(),
            ..signature.rule
        };
        self.mask == other.mask && identity(self) == identity(other)
    }
}

/// A mask and a key that grow together.
#[derive(Default)]
struct Bits {
    mask: SignatureMask,
    key: Fields,
}

impl Bits {
    fn endpoint(&mut self, shift: u32, width: u32, value: Option<u64>) {
        let Some(value) = value else { return };
        self.mask.fields.endpoint |= ((1 << width) - 1) << shift;
        self.key.endpoint |= value << shift;
    }

    fn header(&mut self, shift: u32, width: u32, value: Option<u64>) {
        let Some(value) = value else { return };
        self.mask.fields.header |= ((1 << width) - 1) << shift;
        self.key.header |= value << shift;
    }

    fn payload(&mut self, offset: u16, bytes: &[u8]) {
        let window = |byte: &dyn Fn(usize) -> u8| {
            let mut words = [0; 2];
            for (index, word) in words.iter_mut().enumerate() {
                let bytes = (0..8).map(|at| byte(index * 8 + at));
                *word = bytes.fold(0, |word, byte| word << 8 | u64::from(byte));
            }
            words
        };
        let length = bytes.len().min(WINDOW);
        self.mask.fields.payload = window(&|at| if at < length { u8::MAX } else { 0 });
        self.key.payload = window(&|at| bytes.get(at).copied().unwrap_or_default());
        self.mask.payload_offset = offset.into();
        self.mask.payload_end = u32::from(offset) + u32::try_from(length).unwrap_or_default();
    }
}

/// The value of a range that has only one: it goes into the key.
fn single<T: Copy + PartialEq + Into<u64>>(range: Option<&RangeInclusive<T>>) -> Option<u64> {
    let range = range?;
    (range.start() == range.end()).then(|| (*range.start()).into())
}

fn bounds<T: Copy + Default>(range: Option<&RangeInclusive<T>>, max: T) -> [T; 2] {
    range.map_or([T::default(), max], |range| [*range.start(), *range.end()])
}

fn protocol_number(transport: Transport) -> u64 {
    u64::from(match transport {
        Transport::Tcp => protocol::TCP,
        Transport::Udp => protocol::UDP,
    })
}

fn version_number(family: Family) -> u64 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    }
}
