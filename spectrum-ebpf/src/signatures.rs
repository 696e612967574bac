//! Signatures by tuple-space search (Srinivasan, Suri, Varghese 1999): for each mask that an app
//! uses, one look-up of what the mask leaves of the packet.

use core::borrow::Borrow;

use spectrum_common::{
    app::{App, mode},
    geo::Answers,
    reason::Reason,
    signature::{
        Fields, MASKS_PER_APP, SETS, SignatureMask, SignatureRule, SignatureSet, WAYS, action,
        origin,
    },
};

use crate::{
    geo,
    packet::Bytes,
    parse::{Fragment, Packet},
};

/// The tables of the signatures, element by element.
pub trait Signatures {
    fn mask(&self, index: u32) -> Option<impl Borrow<SignatureMask>>;

    fn set(&self, index: u32) -> Option<impl Borrow<SignatureSet>>;

    fn rule(&self, index: u32) -> Option<impl Borrow<SignatureRule>>;

    /// The clock of [`SignatureRule::expires_ns`].
    fn now_ns(&self) -> u64;

    /// What holds for the source of the packet, see [`geo`].
    fn answers(&self) -> &Answers;

    /// See [`examine`].
    fn examine(&self, index: u32, mask: u32, key: &Fields, packet: &Packet) -> u64 {
        examine(self, index, mask, key, packet)
    }

    /// Notes that a rule has matched; for one that limits a rate, says whether the packet is
    /// within it.
    fn hit(&self, index: u32, rule: &SignatureRule, packet: &Packet) -> bool;
}

/// What the signatures of an app say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Why the first of the rules that only monitor would have dropped it.
    pub monitored: Option<Reason>,
    pub ruling: Ruling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing: the rules after the signatures decide.
    Silent,
    /// It passes, and none of them is asked.
    Pass,
    Drop(Reason),
}

/// The first rule of each kind that matches: its place in the order, above its number.
struct Found {
    monitored: u64,
    enforced: u64,
}

/// Comes after every rule.
const NOTHING: u64 = u64::MAX >> 1;

/// Bits of a rule's number.
const NUMBER_BITS: u32 = 16;

impl Found {
    const NOTHING: Self = Self {
        monitored: NOTHING,
        enforced: NOTHING,
    };

    /// Notes what [`examine`] says of the rule `index`. Without a branch: the verifier would follow each
    /// way with what it says about the numbers that were compared.
    #[inline(always)]
    const fn note(&mut self, index: u32, examined: u64) {
        let place = examined >> u32::BITS << NUMBER_BITS | index as u64;
        // The bits of the mode are told apart by their weight: 1 to monitor, 2 to enforce.
        self.monitored = least(self.monitored, place | nothing_unless(examined & 1));
        self.enforced = least(self.enforced, place | nothing_unless(examined >> 1 & 1));
    }
}

const _: () = assert!(mode::OFF == 0 && mode::MONITOR == 1 && mode::ENFORCE == 2);

/// [`NOTHING`] if `bit` is 0, and else 0.
#[inline(always)]
const fn nothing_unless(bit: u64) -> u64 {
    bit.wrapping_sub(1) >> 1
}

/// The smaller of two numbers below 2^63.
#[inline(always)]
const fn least(one: u64, other: u64) -> u64 {
    let difference = one.wrapping_sub(other).cast_signed();
    other.wrapping_add((difference & difference >> 63).cast_unsigned())
}

/// Asks the signatures that hold for the app at `slot`.
#[inline(always)]
pub fn judge(
    tables: &impl Signatures,
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
    slot: u32,
    app: &App,
) -> Opinion {
    let found = find(tables, frame, packet, slot, app);
    let mut opinion = Opinion {
        monitored: None,
        ruling: Ruling::Silent,
    };
    // What comes after the rule that decides is not asked.
    if found.monitored >> NUMBER_BITS < found.enforced >> NUMBER_BITS
        && let Some(Ruling::Drop(reason)) = apply(tables, found.monitored, packet)
    {
        opinion.monitored = Some(reason);
    }
    if let Some(ruling) = apply(tables, found.enforced, packet) {
        opinion.ruling = ruling;
    }
    opinion
}

#[inline(always)]
fn apply(tables: &impl Signatures, found: u64, packet: &Packet) -> Option<Ruling> {
    if found == NOTHING {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a number of 16 bits")]
    let number = found as u32 & ((1 << NUMBER_BITS) - 1);
    let rule = tables.rule(number)?;
    let rule = rule.borrow();
    let is_within = tables.hit(number, rule, packet);
    let reason = match rule.origin {
        origin::MITIGATION => Reason::Signature,
        _ => Reason::CustomRule,
    };
    Some(match rule.action {
        action::DROP => Ruling::Drop(reason),
        action::RATE_LIMIT if !is_within => Ruling::Drop(reason),
        action::PASS => Ruling::Pass,
        _ => Ruling::Silent,
    })
}

#[inline(always)]
fn find(
    tables: &impl Signatures,
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
    slot: u32,
    app: &App,
) -> Found {
    let mut found = Found::NOTHING;
    let facts = Fields {
        endpoint: endpoint(packet, slot),
        header: header(packet),
        payload: [0; 2],
    };
    for position in 0..MASKS_PER_APP {
        if position >= app.mask_count as usize {
            break;
        }
        let Some(&index) = app.masks.get(position) else {
            break;
        };
        let Some(mask) = tables.mask(index.into()) else {
            break;
        };
        if let Some(key) = key(frame, packet, &facts, mask.borrow()) {
            look_up(tables, index.into(), &key, packet, &mut found);
        }
    }
    found
}

/// What a mask leaves of a packet with these `facts`; `None` if it has no such payload.
#[inline(always)]
fn key(
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
    facts: &Fields,
    mask: &SignatureMask,
) -> Option<Fields> {
    if u32::from(packet.payload_length) < mask.payload_end {
        return None;
    }
    let payload = if mask.payload_end == 0 {
        facts.payload
    } else {
        window(frame, packet, mask.payload_offset)?
    };
    Some(masked(&Fields { payload, ..*facts }, &mask.fields))
}

/// Notes the rules of one mask that match.
#[inline(always)]
fn look_up(tables: &impl Signatures, mask: u32, key: &Fields, packet: &Packet, found: &mut Found) {
    let hash = hash(key, mask);
    let Some(set) = tables.set(set_index(hash)) else {
        return;
    };
    let set = set.borrow();
    let tag = tag(hash);
    for way in 0..WAYS {
        let (Some(&candidate), Some(&index)) = (set.tags.get(way), set.rules.get(way)) else {
            break;
        };
        if candidate != tag {
            continue;
        }
        found.note(index, tables.examine(index, mask, key, packet));
    }
}

/// The place of a rule in the order (high bits) and its mode (low bits), if what `mask` leaves of a
/// packet is what the rule looks for; else 0, as for one that is off.
#[inline(always)]
pub fn examine(
    tables: &(impl Signatures + ?Sized),
    index: u32,
    mask: u32,
    key: &Fields,
    packet: &Packet,
) -> u64 {
    let Some(rule) = tables.rule(index) else {
        return 0;
    };
    let rule = rule.borrow();
    if rule.mask != mask || rule.key != *key || !is_in_ranges(rule, packet) {
        return 0;
    }
    let answers = tables.answers();
    if !geo::says(answers, rule.countries.into()) || !geo::says(answers, rule.asns.into()) {
        return 0;
    }
    if rule.expires_ns != 0 && tables.now_ns() >= rule.expires_ns {
        return 0;
    }
    u64::from(rule.order) << 32 | u64::from(rule.mode)
}

#[inline(always)]
fn is_in_ranges(rule: &SignatureRule, packet: &Packet) -> bool {
    let within = |[first, last]: [u16; 2], value: u16| first <= value && value <= last;
    let [first_hops, last_hops] = rule.hops;
    within(rule.length, packet.packet_length)
        && within(rule.source_port, packet.source_port)
        && within(rule.destination_port, packet.destination_port)
        && first_hops <= packet.hops
        && packet.hops <= last_hops
}

/// What rules look at in a packet to the app at `slot`, with the window of the payload at `offset`.
/// What the packet does not have is zero.
pub fn fields(frame: &(impl Bytes + ?Sized), packet: &Packet, slot: u32, offset: u32) -> Fields {
    Fields {
        endpoint: endpoint(packet, slot),
        header: header(packet),
        payload: window(frame, packet, offset).unwrap_or_default(),
    }
}

#[inline(always)]
fn endpoint(packet: &Packet, slot: u32) -> u64 {
    let version = if packet.source.is_ipv4() { 4 } else { 6 };
    (slot as u64) << 48
        | u64::from(packet.source_port) << 32
        | u64::from(packet.destination_port) << 16
        | u64::from(packet.protocol) << 8
        | version
}

#[inline(always)]
fn header(packet: &Packet) -> u64 {
    u64::from(packet.packet_length) << 48
        | u64::from(packet.window) << 32
        | u64::from(packet.hops) << 24
        | u64::from(packet.tcp_flags) << 16
        | u64::from(packet.tcp_words) << 8
        | u64::from(packet.fragment == Fragment::First)
}

/// The bytes of the payload at `offset`, as far as they go; `None` if they cannot be read.
#[inline(always)]
fn window(frame: &(impl Bytes + ?Sized), packet: &Packet, offset: u32) -> Option<[u64; 2]> {
    let payload = usize::from(packet.payload_offset);
    let end = payload + usize::from(packet.payload_length);
    let start = payload + offset as usize;
    Some([word(frame, start, end)?, word(frame, start + 8, end)?])
}

/// The eight bytes at `start`, of which those from `end` on are zero. A word that the end cuts is
/// read from behind: the headers before it are longer than it is.
#[inline(always)]
fn word(frame: &(impl Bytes + ?Sized), start: usize, end: usize) -> Option<u64> {
    if start >= end {
        return Some(0);
    }
    let missing = (start + 8).saturating_sub(end);
    let bytes = frame.read(frame.position(start - missing))?;
    Some(u64::from_be_bytes(bytes) << (8 * missing))
}

/// What a mask leaves of a packet.
#[inline(always)]
pub const fn masked(facts: &Fields, mask: &Fields) -> Fields {
    let [first, second] = facts.payload;
    let [first_mask, second_mask] = mask.payload;
    Fields {
        endpoint: facts.endpoint & mask.endpoint,
        header: facts.header & mask.header,
        payload: [first & first_mask, second & second_mask],
    }
}

/// The hash of a key under a mask; its parts are [`set_index`] and [`tag`].
#[inline(always)]
pub const fn hash(key: &Fields, mask: u32) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let [first, second] = key.payload;
    let mut hash = mask as u64 + 1;
    hash = (hash ^ key.endpoint).wrapping_mul(MIX);
    hash = (hash ^ (hash >> 32) ^ key.header).wrapping_mul(MIX);
    hash = (hash ^ (hash >> 32) ^ first).wrapping_mul(MIX);
    hash = (hash ^ (hash >> 32) ^ second).wrapping_mul(MIX);
    hash ^ (hash >> 29)
}

/// The element of the table that a hash leads to.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
pub const fn set_index(hash: u64) -> u32 {
    hash as u32 & (SETS - 1)
}

/// What tells the rules of a set apart at first sight; never 0, which means "unused".
#[inline(always)]
pub const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

impl Opinion {
    pub const NONE: Self = Self {
        monitored: None,
        ruling: Ruling::Silent,
    };

    /// Itself as a number, for functions that can return nothing else.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        let monitored = match self.monitored {
            Some(reason) => reason as u64 + 1,
            None => 0,
        };
        let ruling = match self.ruling {
            Ruling::Silent => 0,
            Ruling::Pass => 1,
            Ruling::Drop(reason) => reason as u64 + 2,
        };
        monitored << 32 | ruling
    }

    /// The opinion of [`Opinion::to_bits`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of a number")]
    pub fn from_bits(bits: u64) -> Self {
        let reason = |number: u32| Reason::try_from(number).ok();
        let ruling = match bits as u32 {
            0 => Ruling::Silent,
            1 => Ruling::Pass,
            number => reason(number - 2).map_or(Ruling::Silent, Ruling::Drop),
        };
        Self {
            monitored: ((bits >> 32) as u32).checked_sub(1).and_then(reason),
            ruling,
        }
    }
}

#[cfg(test)]
mod signatures_test;
