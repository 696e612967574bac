//! The order of the rules, and what a mode makes of them.

mod connections;
mod world;

use std::vec::Vec;

use spectrum_common::{address::Address, ceiling::Ceiling, geo::Answers};

use super::*;
use crate::signatures::Opinion;
use world::*;

/// The reasons in the order in which they are found, by switching off each rule that matched.
fn order_of(packet: &Packet) -> Vec<Reason> {
    let mut world = hostile(mode::ENFORCE);
    let mut reasons = Vec::new();
    while let Outcome::Dropped(reason) = decide(packet, &world).outcome {
        reasons.push(reason);
        match reason {
            Reason::Malformed | Reason::TcpFlags | Reason::Martian => world.settings.malformed = 0,
            Reason::ClosedPort => world.settings.closed_ports = 0,
            Reason::Blocked => world.app.blocklist = 0,
            Reason::NotAllowed => world.app.allowlist = 0,
            Reason::Country => world.app.countries = 0,
            Reason::Asn => world.app.asns = 0,
            Reason::Reflector => world.app.reflectors = 0,
            Reason::Fragment => {
                world.app.fragments = 0;
                world.edge = Edge::default();
            }
            Reason::Signature | Reason::CustomRule => world.app.mask_count = 0,
            Reason::PacketRate => world.app.packet_rate = limit(mode::OFF),
            Reason::SynRate => world.app.syn_rate = limit(mode::OFF),
            Reason::Ceiling => world.app.ceiling = Ceiling::default(),
            Reason::NoTcpSession => world.app.session = 0,
            Reason::DatagramSize => world.app.datagrams = 0,
            Reason::OutOfState => {
                world.app.out_of_state = 0;
                world.settings.closed_ports = 0;
            }
        }
    }
    reasons
}

#[test]
fn rules_are_asked_in_their_order() {
    use Reason::{
        Asn, Blocked, ClosedPort, Country, DatagramSize, Malformed, Martian, NoTcpSession,
        NotAllowed, OutOfState, PacketRate, Reflector, Signature, SynRate,
    };
    let martian = |packet| Packet {
        defect: Some(Martian),
        ..packet
    };
    assert_eq!(
        order_of(&martian(syn())),
        [
            Martian,
            Blocked,
            NotAllowed,
            Country,
            Asn,
            Signature,
            NoTcpSession,
            PacketRate,
            SynRate,
            Reason::Ceiling
        ]
    );
    assert_eq!(
        order_of(&reflected()),
        [
            Blocked,
            NotAllowed,
            Country,
            Asn,
            Reflector,
            DatagramSize,
            Reason::Fragment,
            Signature,
            NoTcpSession,
            PacketRate,
            Reason::Ceiling
        ]
    );
    let closed = Packet {
        destination_port: PORT + 1,
        ..syn()
    };
    assert_eq!(order_of(&closed), [ClosedPort]);
    assert_eq!(order_of(&acknowledging(closed)), [OutOfState]);
    assert_eq!(
        order_of(&acknowledging(syn())),
        [
            Blocked,
            NotAllowed,
            Country,
            Asn,
            Signature,
            NoTcpSession,
            PacketRate,
            OutOfState,
            Reason::Ceiling
        ]
    );
    let later = Packet {
        fragment: Fragment::Later,
        has_ports: false,
        ..reflected()
    };
    assert_eq!(order_of(&later), [Reason::Fragment]);
    let cut = Packet {
        has_ports: false,
        defect: Some(Malformed),
        ..syn()
    };
    assert_eq!(order_of(&cut), [Malformed]);
}

#[test]
fn nothing_is_dropped_in_mode_monitor_and_the_first_rule_is_named() {
    let verdict = decide(&reflected(), &hostile(mode::MONITOR));
    assert_eq!(verdict.slot, SLOT);
    assert_eq!(verdict.outcome, Outcome::Monitored(Reason::Blocked));

    // A later rule that enforces drops what an earlier one only watched.
    let mut mixed = hostile(mode::MONITOR);
    mixed.app.fragments = mode::ENFORCE;
    let verdict = decide(&reflected(), &mixed);
    assert_eq!(verdict.outcome, Outcome::Dropped(Reason::Fragment));

    // A defect is counted at the host, wherever the packet goes on to.
    let martian = Packet {
        defect: Some(Reason::Martian),
        ..syn()
    };
    let verdict = decide(&martian, &hostile(mode::MONITOR));
    assert_eq!(verdict.slot, HOST_SLOT);
    assert_eq!(verdict.outcome, Outcome::Monitored(Reason::Martian));
}

/// What the operator lets pass is spared the rules after the signatures, and no rule before them.
#[test]
fn a_rule_that_passes_spares_the_later_rules() {
    let mut world = hostile(mode::ENFORCE);
    world.opinion = Some(Opinion {
        monitored: None,
        ruling: Ruling::Pass,
    });
    let blocked = Outcome::Dropped(Reason::Blocked);
    assert_eq!(decide(&syn(), &world).outcome, blocked);
    world.app.blocklist = mode::OFF;
    world.app.allowlist = mode::OFF;
    world.app.geo = 0;
    assert_eq!(decide(&syn(), &world).outcome, Outcome::Passed);
    world.app.mask_count = 0;
    let over = Outcome::Dropped(Reason::NoTcpSession);
    assert_eq!(decide(&syn(), &world).outcome, over);
}

/// The operator has to be able to let himself in, wherever he is.
#[test]
fn an_entry_that_allows_exempts_from_countries_and_systems() {
    let allowed = Some(Listed::Allowed);
    let hostile = || World {
        app: App {
            blocklist: mode::OFF,
            allowlist: mode::OFF,
            mask_count: 0,
            session: mode::OFF,
            ceiling: Ceiling::default(),
            packet_rate: limit(mode::OFF),
            syn_rate: limit(mode::OFF),
            ..hostile(mode::ENFORCE).app
        },
        ..hostile(mode::ENFORCE)
    };
    let outcome = |world| decide(&syn(), &world).outcome;
    assert_eq!(outcome(hostile()), Outcome::Dropped(Reason::Country));
    let by_all = World {
        global: allowed,
        ..hostile()
    };
    assert_eq!(outcome(by_all), Outcome::Passed);
    let by_app = World {
        global: None,
        own: allowed,
        ..hostile()
    };
    assert_eq!(outcome(by_app), Outcome::Passed);
}

#[test]
fn what_is_not_ours_passes_whatever_it_is() {
    let world = hostile(mode::ENFORCE);
    let elsewhere = Packet {
        destination: Address::from_ipv4_be(9),
        defect: Some(Reason::Martian),
        ..syn()
    };
    let icmp = Packet {
        protocol: 1,
        has_ports: false,
        ..syn()
    };
    for packet in [elsewhere, icmp, Packet::default()] {
        assert_eq!(decide(&packet, &world), Verdict::PASSED);
    }
}

#[test]
fn a_closed_port_is_silent_unless_somebody_listens_or_the_host_has_asked() {
    let world = hostile(mode::ENFORCE);
    let closed = Packet {
        destination_port: PORT + 1,
        ..syn()
    };
    let stray = acknowledging(closed);
    let listening = World {
        has_socket: true,
        ..hostile(mode::ENFORCE)
    };
    let dropped = Outcome::Dropped(Reason::ClosedPort);
    assert_eq!(decide(&closed, &world).outcome, dropped);
    let out_of_state = Outcome::Dropped(Reason::OutOfState);
    assert_eq!(decide(&stray, &world).outcome, out_of_state);
    assert_eq!(decide(&closed, &listening), Verdict::PASSED);
    assert_eq!(decide(&stray, &listening), Verdict::PASSED);
}

/// Who wins when the scopes disagree.
#[test]
fn the_scopes_of_the_lists() {
    use Listed::{Allowed, Blocked};
    let blocked = Outcome::Dropped(Reason::Blocked);
    let not_allowed = Outcome::Dropped(Reason::NotAllowed);
    for (global, own, block_only, with_allowlist) in [
        (None, None, Outcome::Passed, not_allowed),
        (None, Some(Allowed), Outcome::Passed, Outcome::Passed),
        (None, Some(Blocked), blocked, blocked),
        (Some(Allowed), None, Outcome::Passed, not_allowed),
        (Some(Allowed), Some(Blocked), blocked, blocked),
        (Some(Blocked), Some(Allowed), blocked, blocked),
    ] {
        let mut world = World {
            global,
            own,
            is_over: false,
            opinion: None,
            answers: Answers::default(),
            ..hostile(mode::ENFORCE)
        };
        assert_eq!(
            decide(&syn(), &world).outcome,
            with_allowlist,
            "{global:?} {own:?}"
        );
        world.app.allowlist = mode::OFF;
        assert_eq!(
            decide(&syn(), &world).outcome,
            block_only,
            "{global:?} {own:?}"
        );
    }
}

/// A flood that the ceiling stops leaves no trace among the sources.
#[test]
fn what_the_ceiling_refuses_is_not_charged_to_its_source() {
    let mut world = hostile(mode::ENFORCE);
    world.app = App {
        packet_rate: limit(mode::ENFORCE),
        ceiling: world.app.ceiling,
        ..App::default()
    };
    world.is_closed = true;
    let ceiling = Outcome::Dropped(Reason::Ceiling);
    assert_eq!(decide(&syn(), &world).outcome, ceiling);
    // Who only watches the ceiling wants to see what the other rules do.
    world.app.ceiling.mode = mode::MONITOR;
    let over = Outcome::Dropped(Reason::PacketRate);
    assert_eq!(decide(&syn(), &world).outcome, over);
}

/// Both ends of the range are within.
#[test]
fn datagrams_have_a_size() {
    let world = |datagrams| World {
        app: App {
            datagrams,
            datagram_least: 1,
            datagram_most: 1400,
            ..App::default()
        },
        ..World::default()
    };
    let of = |datagram_length| Packet {
        datagram_length,
        fragment: Fragment::Whole,
        source_port: 50_000,
        ..reflected()
    };
    let wrong = Outcome::Dropped(Reason::DatagramSize);
    for (length, outcome) in [
        (0, wrong),
        (1, Outcome::Passed),
        (1400, Outcome::Passed),
        (1401, wrong),
        (u16::MAX, wrong),
    ] {
        let enforced = decide(&of(length), &world(mode::ENFORCE));
        assert_eq!(enforced.outcome, outcome, "{length} bytes");
        let off = decide(&of(length), &world(mode::OFF));
        assert_eq!(off.outcome, Outcome::Passed);
    }
}

#[test]
fn a_verdict_survives_as_a_number() {
    for &reason in Reason::ALL {
        for outcome in [
            Outcome::Passed,
            Outcome::Monitored(reason),
            Outcome::Dropped(reason),
            Outcome::Answered,
        ] {
            let verdict = Verdict {
                slot: 1023,
                outcome,
            };
            assert_eq!(Verdict::from_bits(verdict.to_bits()), verdict);
        }
    }
}
