//! A packet refused for another's sake, or for what is long past, is a client locked out.

use spectrum_common::address::Address;

use super::*;

const TICKS: u32 = 250;
const SLOT: u32 = 7;
const NOW: Now = Now {
    jiffies: 1 << 33,
    generation: 5,
};

fn packet() -> Packet {
    Packet {
        protocol: 6,
        source: Address::from_ipv4_be(0xc000_0201),
        destination: Address::from_ipv4_be(0xc633_6401),
        destination_port: 22,
        has_ports: true,
        ..Packet::default()
    }
}

fn later(ticks: u32) -> Now {
    Now {
        jiffies: NOW.jiffies + u64::from(ticks),
        ..NOW
    }
}

#[test]
fn it_holds_for_the_same_source_at_the_same_service() {
    let mut refusal = Refusal::default();
    note(&mut refusal, &packet(), SLOT, NOW);
    let other_source = Packet {
        source: Address::from_ipv4_be(0xc000_0202),
        ..packet()
    };
    let other_edge = Packet {
        destination: Address::from_ipv4_be(0xc633_6402),
        ..packet()
    };
    let other_port = Packet {
        destination_port: 23,
        ..packet()
    };
    let other_protocol = Packet {
        protocol: 17,
        ..packet()
    };
    let other_client_port = Packet {
        source_port: 4,
        ..packet()
    };
    assert_eq!(find(&refusal, &packet(), NOW, TICKS), Some(SLOT));
    assert_eq!(find(&refusal, &other_client_port, NOW, TICKS), Some(SLOT));
    for other in [other_source, other_edge, other_port, other_protocol] {
        assert_eq!(find(&refusal, &other, NOW, TICKS), None, "{other:?}");
    }
}

#[test]
fn it_ends_with_its_second_and_with_the_policy() {
    let mut refusal = Refusal::default();
    note(&mut refusal, &packet(), SLOT, NOW);
    assert_eq!(
        find(&refusal, &packet(), later(TICKS - 1), TICKS),
        Some(SLOT)
    );
    assert_eq!(find(&refusal, &packet(), later(TICKS), TICKS), None);
    let next = Now {
        generation: NOW.generation + 1,
        ..NOW
    };
    assert_eq!(find(&refusal, &packet(), next, TICKS), None);
}

#[test]
fn an_element_that_nobody_has_written_refuses_nobody() {
    let packet = Packet {
        has_ports: true,
        ..Packet::default()
    };
    let now = Now {
        jiffies: 0,
        generation: 1,
    };
    assert_eq!(find(&Refusal::default(), &packet, now, TICKS), None);
}

#[test]
fn only_packets_without_anything_special_are_remembered() {
    use spectrum_common::reason::Reason;
    assert!(is_plain(&packet()));
    let defect = Some(Reason::Martian);
    let fragment = Fragment::First;
    for special in [
        Packet { defect, ..packet() },
        Packet {
            fragment,
            ..packet()
        },
        Packet {
            has_ports: false,
            ..packet()
        },
    ] {
        assert!(!is_plain(&special), "{special:?}");
    }
}
