//! Any custom rules and mitigations, any packet: tuple-space search finds what a search through all
//! rules finds, condition by condition.

use std::{borrow::Borrow, collections::BTreeMap, ops::RangeInclusive};

use arbitrary::{Arbitrary, Unstructured};
use spectrum_common::{
    app::{App, mode},
    geo::{ANYWHERE, Answers},
    reason::Reason,
    signature::{SignatureMask, SignatureRule, SignatureSet},
};
use spectrum_ebpf::{
    parse::{Kind, Packet, parse, protocol},
    signatures::{self, Opinion, Ruling, Signatures, masked},
};
use spectrum_user::{
    config::{
        Mode, Transport,
        rule::{Action, Conditions, Family, Flags, Payload, Rule},
    },
    dataplane::signatures::{Placed, Signature},
    geo::{Country, Place, Question},
};

use crate::frame::{PORTS, Shape};

/// The app that the packet is for; the other one's rules must not match.
const SLOT: u32 = 1;
const NOW: u64 = 1000;

/// A custom rule, as documents may have it.
#[derive(Arbitrary, Debug)]
struct Wanted {
    scope: u8,
    transport: Option<bool>,
    family: Option<bool>,
    length: Option<(u8, u8)>,
    ttl: Option<(u8, u8)>,
    source_port: Option<(u8, u8)>,
    port: Option<(u8, u8)>,
    flags: Option<(u8, u8)>,
    payload: Option<(u8, [u8; 3], u8)>,
    countries: Option<u8>,
    asns: Option<u8>,
    action: u8,
    mode: u8,
}

/// A mitigation: bits of some packet.
#[derive(Arbitrary, Debug)]
struct Learned {
    of: Shape,
    bits: u8,
    expires: u8,
    monitors: bool,
}

#[derive(Arbitrary, Debug)]
struct Case {
    rules: [Option<Wanted>; 6],
    mitigations: [Option<Learned>; 3],
    packets: [Shape; 3],
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    let rules: Vec<(Rule, u32)> = (1..).zip(case.rules.iter().flatten()).map(rule).collect();
    let mitigations: Vec<Signature> = (1..)
        .zip(case.mitigations.iter().flatten())
        .map(mitigation)
        .collect();
    let mut asked = Asked::default();
    let of_rules = rules
        .iter()
        .map(|(rule, scope)| asked.signature(rule, *scope));
    let wanted: Vec<Signature> = of_rules.chain(mitigations.iter().copied()).collect();
    for signature in &wanted {
        let scoped = signature.scope();
        assert!(scoped <= 2);
        let key = signature.rule.key;
        assert_eq!(
            masked(&key, &signature.mask.fields),
            key,
            "a bit nobody asks for"
        );
    }
    // Of rules that differ in nothing but ranges there is no room for many.
    let Ok(placed) = Placed::new(&BTreeMap::new(), &wanted) else {
        return;
    };
    let (masks, mask_count) = placed.masks_of(SLOT).expect("9 rules have no 17 masks");
    let app = App {
        masks,
        mask_count,
        ..App::default()
    };
    for shape in &case.packets {
        let frame = shape.bytes();
        let mut packet = Packet::default();
        parse(frame.as_slice(), &mut packet);
        if packet.kind != Kind::Addressed || !packet.has_ports {
            continue;
        }
        let tables = InMemory(&placed, asked.answers(place(&packet)));
        let found = signatures::judge(&tables, frame.as_slice(), &packet, SLOT, &app);
        let searched = searched(&rules, &mitigations, &frame, &packet);
        assert_eq!(found, searched, "{packet:?}\n{rules:#?}\n{mitigations:?}");
    }
}

fn rule((id, wanted): (u32, &Wanted)) -> (Rule, u32) {
    let of_port = |(first, last): (u8, u8)| {
        let port = |number: u8| PORTS[usize::from(number) % PORTS.len()];
        range(port(first), port(last))
    };
    let action = match wanted.action % 3 {
        0 => Action::Drop,
        1 => Action::Pass,
        _ => Action::RateLimit {
            per_second: 1,
            burst: 1,
        },
    };
    let mode = match (wanted.mode % 3, action) {
        (0, _) => Mode::Off,
        (1, Action::Drop | Action::RateLimit { .. }) => Mode::Monitor,
        (_, _) => Mode::Enforce,
    };
    let conditions = Conditions {
        transport: wanted
            .transport
            .map(|tcp| if tcp { Transport::Tcp } else { Transport::Udp }),
        family: wanted
            .family
            .map(|six| if six { Family::Ipv6 } else { Family::Ipv4 }),
        length: wanted
            .length
            .map(|(first, last)| range(first.into(), last.into())),
        ttl: wanted.ttl.map(|(first, last)| range(first, last)),
        source_port: wanted.source_port.map(of_port),
        port: wanted.port.map(of_port),
        flags: wanted.flags.map(|(set, clear)| Flags {
            set,
            clear: clear & !set,
        }),
        payload: wanted.payload.map(|(offset, bytes, length)| Payload {
            offset: (offset % 30).into(),
            bytes: bytes[..usize::from(length % 3) + 1].to_vec(),
        }),
        countries: chosen(wanted.countries, countries()),
        asns: chosen(wanted.asns, ASNS),
    };
    let rule = Rule {
        id,
        name: None,
        conditions,
        action,
        mode,
    };
    (rule, (wanted.scope % 3).into())
}

/// Those of three whose bits are set, at least one; none if there is no such condition.
fn chosen<T>(bits: Option<u8>, these: [T; 3]) -> Vec<T> {
    let bits = bits.map_or(0, |bits| bits % 7 + 1);
    let these = (0..).zip(these);
    let chosen = these.filter(|(number, _)| bits >> number & 1 != 0);
    chosen.map(|(_, this)| this).collect()
}

fn range<T: Ord>(a: T, b: T) -> RangeInclusive<T> {
    if a <= b { a..=b } else { b..=a }
}

/// Where sources are; the last is what nobody knows.
fn countries() -> [Country; 3] {
    ["DE", "KP", "XX"].map(|code| Country::parse(code).unwrap())
}

const ASNS: [u32; 3] = [64_496, 64_497, 0];

/// Where the source of a packet is.
fn place(packet: &Packet) -> Place {
    let number = packet.source.low_bits() as usize % 8;
    Place {
        country: countries()[number % 3],
        asn: ASNS[number / 3],
    }
}

/// The questions that rules ask about places.
#[derive(Default)]
struct Asked(Vec<Question>);

impl Asked {
    fn signature(&mut self, rule: &Rule, scope: u32) -> Signature {
        let mut signature = Signature::of_rule(rule, scope);
        signature.rule.countries = self.number(rule.conditions.asked_country());
        signature.rule.asns = self.number(rule.conditions.asked_asn());
        signature
    }

    fn number(&mut self, question: Option<Question>) -> u8 {
        let number = question.map_or(ANYWHERE, |question| {
            let known = self.0.iter().position(|asked| *asked == question);
            Self::number_at(known.unwrap_or_else(|| {
                self.0.push(question);
                self.0.len() - 1
            }))
        });
        number.try_into().unwrap()
    }

    /// The twelve that there may be are in both words of the answers.
    fn number_at(index: usize) -> u32 {
        10 * (u32::try_from(index).unwrap() + 1)
    }

    fn answers(&self, place: Place) -> Answers {
        let mut answers = Answers::default();
        for (index, question) in self.0.iter().enumerate() {
            let number = Self::number_at(index);
            let word = &mut answers.words[number as usize / 64];
            *word |= u64::from(question.answer(place)) << (number % 64);
        }
        answers
    }
}

fn mitigation((id, learned): (u32, &Learned)) -> Signature {
    let frame = learned.of.bytes();
    let mut packet = Packet::default();
    parse(frame.as_slice(), &mut packet);
    let fields = signatures::fields(frame.as_slice(), &packet, 0, 0);
    let bit = |number: u8| u64::from(learned.bits >> number & 1);
    let mut mask = SignatureMask::default();
    mask.fields.header = bit(0) * (0xffff << 48) + bit(1) * (0xff << 24) + bit(2) * (0xff << 16);
    mask.fields.endpoint = bit(3) * (0xffff << 32);
    if learned.bits & 1 << 4 != 0 && packet.payload_length >= 4 {
        mask.fields.payload = [u64::from(u32::MAX) << 32, 0];
        mask.payload_end = 4;
    }
    let mode = if learned.monitors {
        Mode::Monitor
    } else {
        Mode::Enforce
    };
    let expires = [0, NOW - 1, NOW, NOW + 1][usize::from(learned.expires % 4)];
    let key = masked(&fields, &mask.fields);
    Signature::of_mitigation(id, SLOT, (mask, key), mode, expires)
}

/// What the rules say, asked one after the other.
fn searched(
    rules: &[(Rule, u32)],
    mitigations: &[Signature],
    frame: &[u8],
    packet: &Packet,
) -> Opinion {
    let mut opinion = Opinion::NONE;
    let mut ordered: Vec<_> = rules.iter().collect();
    ordered.sort_by_key(|(rule, scope)| (rule.id, *scope != 0));
    let matching = ordered.into_iter().filter(|(rule, scope)| {
        [0, SLOT].contains(scope) && matches(&rule.conditions, frame, packet)
    });
    let custom = matching.map(|(rule, _)| {
        let ruling = match rule.action {
            Action::Drop | Action::RateLimit { .. } => Ruling::Drop(Reason::CustomRule),
            Action::Pass => Ruling::Pass,
        };
        (rule.mode, ruling)
    });
    let fields = signatures::fields(frame, packet, SLOT, 0);
    let learned = mitigations.iter().filter(|signature| {
        let Signature { mask, rule } = signature;
        let holds = rule.expires_ns == 0 || NOW < rule.expires_ns;
        let has_payload = u32::from(packet.payload_length) >= mask.payload_end;
        holds && has_payload && masked(&fields, &mask.fields) == rule.key
    });
    let learned = learned.map(|signature| {
        let mode = if signature.rule.mode == mode::MONITOR {
            Mode::Monitor
        } else {
            Mode::Enforce
        };
        (mode, Ruling::Drop(Reason::Signature))
    });
    for (mode, ruling) in custom.chain(learned) {
        match (mode, ruling) {
            (Mode::Off, _) => {}
            (Mode::Monitor, Ruling::Drop(reason)) => {
                opinion.monitored = opinion.monitored.or(Some(reason));
            }
            (Mode::Monitor, _) => unreachable!("no rule only watches that passes"),
            (Mode::Enforce, ruling) => {
                opinion.ruling = ruling;
                break;
            }
        }
    }
    opinion
}

/// Whether a packet is all that a rule says.
fn matches(conditions: &Conditions, frame: &[u8], packet: &Packet) -> bool {
    let place = place(packet);
    let start = usize::from(packet.payload_offset);
    let payload = &frame[start..start + usize::from(packet.payload_length)];
    let within = |range: &Option<RangeInclusive<u16>>, value: u16| {
        range.as_ref().is_none_or(|range| range.contains(&value))
    };
    let is_tcp = packet.protocol == protocol::TCP;
    let transport = conditions.transport.is_none_or(|wanted| {
        // Flags are TCP's, whatever else is said.
        conditions.flags.is_some() || (wanted == Transport::Tcp) == is_tcp
    });
    let is_ipv6 = !packet.source.is_ipv4();
    transport
        && conditions
            .family
            .is_none_or(|family| (family == Family::Ipv6) == is_ipv6)
        && within(&conditions.length, packet.packet_length)
        && within(&conditions.source_port, packet.source_port)
        && within(&conditions.port, packet.destination_port)
        && conditions
            .ttl
            .as_ref()
            .is_none_or(|ttl| ttl.contains(&packet.hops))
        && conditions.flags.is_none_or(|flags| {
            is_tcp
                && packet.tcp_flags & flags.set == flags.set
                && packet.tcp_flags & flags.clear == 0
        })
        && conditions.payload.as_ref().is_none_or(|wanted| {
            let rest = payload.get(usize::from(wanted.offset)..);
            rest.is_some_and(|rest| rest.starts_with(&wanted.bytes))
        })
        && (conditions.countries.is_empty() || conditions.countries.contains(&place.country))
        && (conditions.asns.is_empty() || conditions.asns.contains(&place.asn))
}

/// The maps' contents, and what holds for the source. No packet is within a rate, so that every match shows.
struct InMemory<'a>(&'a Placed, Answers);

impl Signatures for InMemory<'_> {
    fn mask(&self, index: u32) -> Option<impl Borrow<SignatureMask>> {
        self.0.masks.get(&index).copied()
    }

    fn set(&self, index: u32) -> Option<impl Borrow<SignatureSet>> {
        Some(self.0.set(index))
    }

    fn rule(&self, index: u32) -> Option<impl Borrow<SignatureRule>> {
        self.0.rules.get(&index).copied()
    }

    fn now_ns(&self) -> u64 {
        NOW
    }

    fn answers(&self) -> &Answers {
        &self.1
    }

    fn hit(&self, _index: u32, _rule: &SignatureRule, _packet: &Packet) -> bool {
        false
    }
}
