//! The order of the rules, and what a mode makes of them.

use core::cell::Cell;
use std::vec::Vec;

use spectrum_common::{address::Address, ceiling::Ceiling, geo::Answers};

use super::*;
use crate::{geo::Objection, limits::Admission, parse::flag, signatures::Opinion, tables::Holder};

const SLOT: u32 = 1;
const PORT: u16 = 80;

/// One edge address with one app, on TCP and UDP, and a source that everything is wrong with.
#[derive(Default)]
struct World {
    settings: spectrum_common::settings::Settings,
    app: App,
    edge: Edge,
    global: Option<Listed>,
    own: Option<Listed>,
    has_socket: bool,
    is_over: bool,
    is_closed: bool,
    opinion: Option<Opinion>,
    holder: Option<Holder>,
    challenges: bool,
    has_too_many_strays: bool,
    answers: Answers,
    verified: Cell<Option<u32>>,
    remembered: Option<u32>,
    refused: Cell<Option<u32>>,
}

impl Tables for World {
    fn settings(&self) -> &spectrum_common::settings::Settings {
        &self.settings
    }

    fn edge(&self, destination: &Address) -> Option<Edge> {
        (*destination == edge()).then_some(Edge {
            tcp_directory: 1,
            udp_directory: 1,
            ..self.edge
        })
    }

    fn port_entry(&self, page: u32, index: u8) -> u16 {
        match (page, index) {
            (1, 0) => 2,
            (2, 80) => 1,
            (_, _) => 0,
        }
    }

    fn app(&self, slot: u32) -> Option<impl core::borrow::Borrow<App>> {
        (slot <= SLOT).then_some(self.app)
    }

    fn may_be_listed(&self, _source: &Address) -> bool {
        self.global.is_some() || self.own.is_some()
    }

    fn look_up(&self, scope: u32, _source: &Address) -> Listed {
        let listed = if scope == GLOBAL_SCOPE {
            self.global
        } else {
            self.own
        };
        listed.unwrap_or(Listed::Nowhere)
    }

    fn judge_place(&self, _source: &Address, is_exempt: bool, app: &App) -> Objection {
        Objection::to(&self.answers, is_exempt, app)
    }

    fn reflector_ports(&self, _set: u32, word: u16) -> u64 {
        // Port 53.
        u64::from(word == 0) << 53
    }

    fn has_socket(&self, _packet: &Packet) -> bool {
        self.has_socket
    }

    fn judge_signatures(&self, _packet: &Packet, _slot: u32, _app: &App) -> Opinion {
        self.opinion.unwrap_or(Opinion::NONE)
    }

    fn admit(&self, packet: &Packet, _slot: u32, app: &App) -> Admission {
        Admission {
            over_packet_rate: self.is_over && app.packet_rate.mode != mode::OFF,
            over_syn_rate: self.is_over && app.syn_rate.mode != mode::OFF && packet.opens_tcp(),
        }
    }

    fn has_tcp_session(&self, _source: &Address, _app: &App) -> bool {
        !self.is_over
    }

    fn is_closed_to(&self, _packet: &Packet, _slot: u32, _app: &App) -> bool {
        self.is_closed
    }

    fn is_above_ceiling(
        &self,
        _packet: &Packet,
        _is_verified: bool,
        _slot: u32,
        _app: &App,
    ) -> bool {
        self.is_over
    }

    fn is_verified(&self, _packet: &Packet, slot: u32) -> bool {
        self.verified.get() == Some(slot)
    }

    fn verify(&self, _packet: &Packet, slot: u32) {
        self.verified.set(Some(slot));
    }

    fn holder(&self, _packet: &Packet) -> Holder {
        self.holder.unwrap_or(Holder::Nobody)
    }

    fn refused_at(&self, _packet: &Packet) -> Option<u32> {
        self.remembered
    }

    fn refuse(&self, _packet: &Packet, slot: u32) {
        self.refused.set(Some(slot));
    }

    fn has_too_many_strays(&self, _slot: u32, _app: &App) -> bool {
        self.has_too_many_strays
    }

    fn challenges(&self, _slot: u32, _app: &App) -> bool {
        self.challenges
    }
}

fn edge() -> Address {
    Address::from_ipv4_be(1)
}

fn syn() -> Packet {
    Packet {
        kind: Kind::Addressed,
        source: Address::from_ipv4_be(2),
        destination: edge(),
        protocol: protocol::TCP,
        has_ports: true,
        tcp_flags: flag::SYN,
        source_port: 50_000,
        destination_port: PORT,
        ..Packet::default()
    }
}

fn acknowledging(packet: Packet) -> Packet {
    Packet {
        tcp_flags: flag::ACK,
        ..packet
    }
}

/// The first fragment of a datagram from a DNS server.
fn reflected() -> Packet {
    Packet {
        protocol: protocol::UDP,
        fragment: Fragment::First,
        tcp_flags: 0,
        source_port: 53,
        ..syn()
    }
}

fn limit(mode: u32) -> spectrum_common::app::RateLimit {
    spectrum_common::app::RateLimit {
        mode,
        ..Default::default()
    }
}

/// A world in which every rule matches a packet made for it, in the given mode.
fn hostile(mode: u32) -> World {
    World {
        settings: spectrum_common::settings::Settings {
            malformed: mode,
            closed_ports: mode,
            ..Default::default()
        },
        app: App {
            blocklist: mode,
            allowlist: mode,
            reflectors: mode,
            fragments: mode,
            has_access_entries: 1,
            packet_rate: limit(mode),
            syn_rate: limit(mode),
            mask_count: 1,
            ceiling: Ceiling {
                mode,
                ..Ceiling::default()
            },
            session: mode,
            datagrams: mode,
            datagram_least: 1,
            out_of_state: mode,
            geo: asked_by::APP,
            countries: mode,
            refused_countries: 1,
            asns: mode,
            refused_asns: 1,
            ..App::default()
        },
        edge: Edge {
            tcp_fragments: mode,
            udp_fragments: mode,
            ..Edge::default()
        },
        global: Some(Listed::Blocked),
        answers: Answers { words: [0b11, 0] },
        is_over: true,
        opinion: Some(if mode == mode::ENFORCE {
            Opinion {
                monitored: None,
                ruling: Ruling::Drop(Reason::Signature),
            }
        } else {
            Opinion {
                monitored: Some(Reason::Signature),
                ruling: Ruling::Silent,
            }
        }),
        ..World::default()
    }
}

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

/// A world whose app is challenged and asks for connections, and in which nothing is wrong.
fn strict() -> World {
    World {
        app: App {
            challenge: 1,
            out_of_state: mode::ENFORCE,
            ..App::default()
        },
        holder: Some(Holder::Listener),
        challenges: true,
        ..World::default()
    }
}

#[test]
fn a_syn_is_answered_only_for_a_listener_that_does_not_know_the_flow() {
    let outcome = |world: &World| decide(&syn(), world).outcome;
    assert_eq!(outcome(&strict()), Outcome::Answered);
    for holder in [Holder::Nobody, Holder::HalfOpen, Holder::Connection] {
        let world = World {
            holder: Some(holder),
            ..strict()
        };
        assert_eq!(outcome(&world), Outcome::Passed, "{holder:?}");
    }
    let calm = World {
        challenges: false,
        ..strict()
    };
    assert_eq!(outcome(&calm), Outcome::Passed);
    let mut never = strict();
    never.app.challenge = 0;
    assert_eq!(outcome(&never), Outcome::Passed);
    // Nor is it answered to who cannot be there, though the rules about that be off.
    let first = Packet {
        fragment: Fragment::First,
        ..syn()
    };
    let martian = Packet {
        defect: Some(Reason::Martian),
        ..syn()
    };
    for packet in [first, martian] {
        assert_eq!(decide(&packet, &strict()).outcome, Outcome::Passed);
    }
}

#[test]
fn a_segment_passes_only_with_a_connection_or_the_answer_to_a_cookie() {
    let segment = acknowledging(syn());
    for (holder, outcome, verified) in [
        (Holder::Nobody, Outcome::Dropped(Reason::OutOfState), false),
        (
            Holder::Listener,
            Outcome::Dropped(Reason::OutOfState),
            false,
        ),
        (Holder::HalfOpen, Outcome::Passed, false),
        (Holder::CookieTaker, Outcome::Passed, true),
        (Holder::Connection, Outcome::Passed, true),
    ] {
        let world = World {
            holder: Some(holder),
            ..strict()
        };
        assert_eq!(decide(&segment, &world).outcome, outcome, "{holder:?}");
        assert_eq!(world.verified.get().is_some(), verified, "{holder:?}");
    }
}

/// Under the same policy, so that the lists need not be asked again.
#[test]
fn who_is_blocked_is_refused_again_without_a_look_at_the_lists() {
    let mut world = strict();
    world.app.blocklist = mode::ENFORCE;
    world.global = Some(Listed::Blocked);
    let dropped = Outcome::Dropped(Reason::Blocked);
    assert_eq!(decide(&syn(), &world).outcome, dropped);
    assert_eq!(world.refused.get(), Some(SLOT));
    world.remembered = world.refused.get();
    world.app.blocklist = mode::OFF;
    let verdict = decide(&syn(), &world);
    assert_eq!((verdict.slot, verdict.outcome), (SLOT, dropped));
    let broken = Packet {
        defect: Some(Reason::Martian),
        ..syn()
    };
    assert_ne!(decide(&broken, &world).outcome, dropped, "another rule's");
}

#[test]
fn who_is_only_watched_or_refused_by_another_rule_is_not_remembered() {
    let mut world = strict();
    world.app.blocklist = mode::MONITOR;
    world.app.allowlist = mode::ENFORCE;
    world.global = Some(Listed::Blocked);
    assert_ne!(decide(&syn(), &world).outcome, Outcome::Passed);
    assert_eq!(world.refused.get(), None);
}

#[test]
fn a_few_segments_of_no_connection_pass_where_they_may() {
    let segment = acknowledging(syn());
    let mut world = strict();
    world.app.out_of_state_above = 1000;
    assert_eq!(decide(&segment, &world).outcome, Outcome::Passed);
    assert_eq!(world.verified.get(), None, "it proves nothing");
    world.has_too_many_strays = true;
    let dropped = Outcome::Dropped(Reason::OutOfState);
    assert_eq!(decide(&segment, &world).outcome, dropped);
}

/// What each packet may differ in holds for whoever has proved himself, the rest was met before.
#[test]
fn a_flow_that_has_proved_itself_meets_signatures_and_rates_alone() {
    let segment = acknowledging(syn());
    let mut world = World {
        verified: Cell::new(Some(SLOT)),
        ..hostile(mode::ENFORCE)
    };
    let matched = Outcome::Dropped(Reason::Signature);
    assert_eq!(decide(&segment, &world).outcome, matched);
    world.app.mask_count = 0;
    world.app.session = mode::OFF;
    let over = Outcome::Dropped(Reason::PacketRate);
    assert_eq!(decide(&segment, &world).outcome, over);
    world.is_over = false;
    let passed = Verdict {
        slot: SLOT,
        outcome: Outcome::Passed,
    };
    assert_eq!(decide(&segment, &world), passed);
    for other in [
        syn(),
        Packet {
            fragment: Fragment::First,
            ..segment
        },
        Packet {
            defect: Some(Reason::TcpFlags),
            ..segment
        },
    ] {
        assert_ne!(decide(&other, &world), passed, "{other:?}");
    }
}

/// Or the rule that watches would count its first packet only.
#[test]
fn a_flow_that_is_watched_proves_nothing() {
    let mut world = World {
        global: Some(Listed::Blocked),
        holder: Some(Holder::Connection),
        ..strict()
    };
    world.app.blocklist = mode::MONITOR;
    let verdict = decide(&acknowledging(syn()), &world);
    assert_eq!(verdict.outcome, Outcome::Monitored(Reason::Blocked));
    assert_eq!(world.verified.get(), None);
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
