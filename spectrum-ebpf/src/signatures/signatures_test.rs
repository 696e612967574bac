//! A signature that matches too much cuts clients off; one that matches too little lets a flood in.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use core::cell::Cell;
use std::{vec, vec::Vec};

use etherparse::PacketBuilder;
use proptest::prelude::*;
use spectrum_common::app::RateLimit;

use super::*;
use crate::parse::parse;

const SLOT: u32 = 1;
const NOW: u64 = 1_000;

/// Rules in tables, found by the same hash as in the kernel.
#[derive(Default)]
struct World {
    masks: Vec<SignatureMask>,
    rules: Vec<SignatureRule>,
    is_within_rate: bool,
    answers: Answers,
    hits: Cell<u32>,
}

impl Signatures for World {
    fn mask(&self, index: u32) -> Option<impl Borrow<SignatureMask>> {
        self.masks.get(index as usize).copied()
    }

    fn set(&self, index: u32) -> Option<impl Borrow<SignatureSet>> {
        let mut set = SignatureSet::default();
        let here = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| set_index(hash(&rule.key, rule.mask)) == index);
        for (place, (rule, found)) in here.enumerate() {
            set.tags[place] = tag(hash(&found.key, found.mask));
            set.rules[place] = u32::try_from(rule).expect("few");
        }
        Some(set)
    }

    fn rule(&self, index: u32) -> Option<impl Borrow<SignatureRule>> {
        self.rules.get(index as usize).copied()
    }

    fn now_ns(&self) -> u64 {
        NOW
    }

    fn answers(&self) -> &Answers {
        &self.answers
    }

    fn hit(&self, _index: u32, _rule: &SignatureRule, _packet: &Packet) -> bool {
        self.hits.set(self.hits.get() + 1);
        self.is_within_rate
    }
}

impl World {
    fn judge(&self, frame: &[u8]) -> Opinion {
        let packet = parsed(frame);
        let mut app = App {
            mask_count: u32::try_from(self.masks.len()).expect("few"),
            ..App::default()
        };
        for (place, index) in app.masks.iter_mut().zip(0..) {
            *place = index;
        }
        judge(self, frame, &packet, SLOT, &app)
    }
}

fn parsed(frame: &[u8]) -> Packet {
    let mut packet = Packet::default();
    parse(frame, &mut packet);
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([1; 6], [2; 6]);
    let datagram = link
        .ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64)
        .udp(port, 7000);
    let mut frame = Vec::new();
    datagram.write(&mut frame, payload).expect("fits");
    frame
}

const SOURCE_PORT: u64 = 0xffff << 32;

fn mask(endpoint: u64) -> SignatureMask {
    SignatureMask {
        fields: Fields {
            endpoint,
            ..Fields::default()
        },
        ..SignatureMask::default()
    }
}

/// A rule that matches whatever the key under mask 0 does.
fn rule(key: Fields, order: u32, action: u32) -> SignatureRule {
    SignatureRule {
        key,
        order,
        action,
        origin: origin::DOCUMENT,
        mode: mode::ENFORCE,
        length: [0, u16::MAX],
        source_port: [0, u16::MAX],
        destination_port: [0, u16::MAX],
        hops: [0, u8::MAX],
        ..SignatureRule::default()
    }
}

fn from_port(port: u64) -> Fields {
    Fields {
        endpoint: port << 32,
        ..Fields::default()
    }
}

/// Two masks: by source port, and (for range rules) by nothing.
fn world(rules: Vec<SignatureRule>) -> World {
    World {
        masks: vec![mask(SOURCE_PORT), mask(0)],
        rules,
        is_within_rate: true,
        ..World::default()
    }
}

#[test]
fn the_first_rule_by_order_decides_whatever_its_mask() {
    let of_any = |order, action| SignatureRule {
        mask: 1,
        ..rule(Fields::default(), order, action)
    };
    let dropped = Ruling::Drop(Reason::CustomRule);
    for (by_port, by_any, expected) in [
        ((1, action::DROP), (2, action::PASS), dropped),
        ((2, action::DROP), (1, action::PASS), Ruling::Pass),
        ((2, action::DROP), (1, action::RATE_LIMIT), Ruling::Silent),
    ] {
        let world = world(vec![
            rule(from_port(53), by_port.0, by_port.1),
            of_any(by_any.0, by_any.1),
        ]);
        assert_eq!(world.judge(&udp(53, b"")).ruling, expected);
        assert_eq!(world.hits.get(), 1, "only the rule that decides is hit");
    }
}

#[test]
fn a_monitored_rule_is_noted_and_the_next_one_decides() {
    let watched = SignatureRule {
        mode: mode::MONITOR,
        origin: origin::MITIGATION,
        ..rule(from_port(53), 1, action::DROP)
    };
    let world_with = |order| world(vec![watched, rule(from_port(53), order, action::DROP)]);
    let opinion = world_with(2).judge(&udp(53, b""));
    assert_eq!(opinion.monitored, Some(Reason::Signature));
    assert_eq!(opinion.ruling, Ruling::Drop(Reason::CustomRule));
    // Behind the rule that decides, it is not asked.
    assert_eq!(world_with(0).judge(&udp(53, b"")).monitored, None);
}

#[test]
fn a_rate_is_for_what_exceeds_it() {
    let mut world = world(vec![SignatureRule {
        rate: RateLimit::default(),
        ..rule(from_port(53), 1, action::RATE_LIMIT)
    }]);
    assert_eq!(world.judge(&udp(53, b"")).ruling, Ruling::Silent);
    world.is_within_rate = false;
    let dropped = Ruling::Drop(Reason::CustomRule);
    assert_eq!(world.judge(&udp(53, b"")).ruling, dropped);
}

#[test]
fn an_expired_rule_matches_nothing() {
    for (expires_ns, matches) in [(0, true), (NOW + 1, true), (NOW, false)] {
        let world = world(vec![SignatureRule {
            expires_ns,
            ..rule(from_port(53), 1, action::DROP)
        }]);
        let is_dropped = world.judge(&udp(53, b"")).ruling != Ruling::Silent;
        assert_eq!(is_dropped, matches, "{expires_ns}");
    }
}

#[test]
fn a_rule_for_places_matches_sources_from_there_alone() {
    for (countries, asns, answers, matches) in [
        (2, 0, [0b101, 0], true),
        (2, 0, [0b011, 1], false),
        (2, 64, [0b101, 1], true),
        (2, 64, [0b101, 0], false),
        (2, 64, [0b001, 1], false),
    ] {
        let mut world = world(vec![SignatureRule {
            countries,
            asns,
            ..rule(from_port(53), 1, action::DROP)
        }]);
        world.answers = Answers { words: answers };
        let is_dropped = world.judge(&udp(53, b"")).ruling != Ruling::Silent;
        assert_eq!(is_dropped, matches, "{:?}", world.answers);
    }
}

#[test]
fn ranges_hold_beside_the_key() {
    let length = |range| {
        let mut rules = vec![rule(from_port(53), 1, action::DROP)];
        rules[0].length = range;
        world(rules).judge(&udp(53, &[0; 100])).ruling != Ruling::Silent
    };
    assert!(length([128, 128]) && length([100, 200]));
    assert!(!length([129, 200]) && !length([1, 127]));
}

proptest! {
    /// The window shows the payload from its offset on, and zeros behind its end.
    #[test]
    fn the_window_is_the_payload(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        offset in 0_u32..80,
        padding in 0_usize..20,
    ) {
        let mut frame = udp(1, &payload);
        frame.resize(frame.len() + padding, 0xee);
        let packet = parsed(&frame);
        let shown = fields(frame.as_slice(), &packet, SLOT, offset).payload;
        let mut expected: Vec<u8> = payload.into_iter().skip(offset as usize).take(16).collect();
        expected.resize(16, 0);
        prop_assert_eq!(shown.map(u64::to_be_bytes).concat(), expected);
    }

    /// Bytes that a rule wants have to be there: zeros in their place are no match.
    #[test]
    fn a_payload_that_is_too_short_never_matches(length in 0_usize..40, end in 1_u32..=16) {
        let bits = u64::MAX.checked_shl(64 - 8 * end.min(8)).unwrap_or_default();
        let wanted = SignatureMask {
            fields: Fields { payload: [bits, 0], ..Fields::default() },
            payload_offset: 0,
            payload_end: end,
        };
        let world = World {
            masks: vec![wanted],
            rules: vec![rule(Fields::default(), 1, action::DROP)],
            ..World::default()
        };
        let is_dropped = world.judge(&udp(1, &vec![0; length])).ruling != Ruling::Silent;
        prop_assert_eq!(is_dropped, length >= end as usize);
    }

    #[test]
    fn an_opinion_survives_as_a_number(
        monitored in prop::option::of(prop::sample::select(Reason::ALL)),
        ruling in prop_oneof![
            Just(Ruling::Silent),
            Just(Ruling::Pass),
            prop::sample::select(Reason::ALL).prop_map(Ruling::Drop),
        ],
    ) {
        let opinion = Opinion { monitored, ruling };
        prop_assert_eq!(Opinion::from_bits(opinion.to_bits()), opinion);
    }
}
