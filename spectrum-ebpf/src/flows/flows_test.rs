//! A flow that is taken for another lets a forged segment in; one that is forgotten costs a look-up.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::parse::protocol;

const SEED: u32 = 0x5eed;
const MAX_AGE: u32 = 1000;
const NOW: Now = Now {
    jiffies: 5_000_000_000,
    generation: 7,
};

fn packet(source: &str, source_port: u16, destination: &str) -> Packet {
    let address = |text: &str| text.parse::<IpAddr>().expect(text).into();
    Packet {
        protocol: protocol::TCP,
        source: address(source),
        destination: address(destination),
        source_port,
        destination_port: 443,
        ..Packet::default()
    }
}

fn key(source_port: u16) -> FlowKey {
    FlowKey::of(&packet("198.51.100.7", source_port, "192.0.2.1"), SEED)
}

#[test]
fn each_part_of_a_flow_counts() {
    let of = |packet| FlowKey::of(&packet, SEED);
    let flows = [
        of(packet("198.51.100.7", 1, "192.0.2.1")),
        of(packet("198.51.100.8", 1, "192.0.2.1")),
        of(packet("198.51.100.7", 2, "192.0.2.1")),
        of(packet("198.51.100.7", 1, "192.0.2.2")),
        of(packet("2001:db8::7", 1, "2001:db8:1::1")),
        of(packet("2001:db8::8", 1, "2001:db8:1::1")),
        of(packet("2001:db8:9::7", 1, "2001:db8:1::1")),
        of(packet("2001:db8::7", 1, "2001:db8:1::2")),
        of(packet("2001:db8::7", 1, "2001:db8:2::1")),
        of(Packet {
            destination_port: 444,
            ..packet("198.51.100.7", 1, "192.0.2.1")
        }),
        FlowKey::of(&packet("198.51.100.7", 1, "192.0.2.1"), SEED + 1),
    ];
    for (index, flow) in flows.iter().enumerate() {
        assert!(!flows.iter().skip(index + 1).any(|other| other == flow));
    }
}

proptest! {
    #[test]
    fn a_proof_holds_for_its_flow_its_time_and_its_policy(
        slot in 1_u32..1024,
        port in any::<u16>(),
        other in any::<u16>(),
        age in 0_u64..2 * u64::from(MAX_AGE),
    ) {
        let mut set = FlowSet::default();
        prop_assert_eq!(find(&set, &key(port), NOW, MAX_AGE), None);
        note(&mut set, &key(port), slot, NOW);
        let later = Now { jiffies: NOW.jiffies + age, ..NOW };
        let expected = (age < u64::from(MAX_AGE)).then_some(slot);
        prop_assert_eq!(find(&set, &key(port), later, MAX_AGE), expected);
        let renewed = Now { generation: NOW.generation + 1, ..NOW };
        prop_assert_eq!(find(&set, &key(port), renewed, MAX_AGE), None);
        if other != port {
            prop_assert_eq!(find(&set, &key(other), NOW, MAX_AGE), None);
        }
    }
}

#[test]
fn the_oldest_gives_way_and_what_is_worth_nothing_before() {
    let mut set = FlowSet::default();
    let at = |jiffies| Now { jiffies, ..NOW };
    for port in 1..=4_u16 {
        note(&mut set, &key(port), 1, at(u64::from(port)));
    }
    note(&mut set, &key(1), 1, at(5));
    note(&mut set, &key(5), 1, at(6));
    let known = |set: &FlowSet, port| find(set, &key(port), at(7), MAX_AGE).is_some();
    assert!(known(&set, 1), "renewed, so not the oldest");
    assert!(!known(&set, 2));
    assert!([3, 4, 5].into_iter().all(|port| known(&set, port)));

    let renewed = Now {
        generation: 8,
        ..at(8)
    };
    for port in 11..=14 {
        note(&mut set, &key(port), 1, renewed);
    }
    let all = (11..=14).all(|port| find(&set, &key(port), renewed, MAX_AGE).is_some());
    assert!(all, "flows of another policy are in the way");
}
