//! Any policy, any answer of the tables, any packet: the verdict is the one that a flat list of the
//! rules gives.

use std::{borrow::Borrow, cell::Cell};

use arbitrary::{Arbitrary, Unstructured};
use spectrum_common::{
    access::GLOBAL_SCOPE,
    address::Address,
    app::{App, HOST_SLOT, RateLimit, mode},
    ceiling::Ceiling,
    edge::Edge,
    handshake::challenge,
    reason::Reason,
    settings::Settings,
};
use spectrum_ebpf::{
    access::Listed,
    limits::Admission,
    parse::{Fragment, Kind, Packet, flag, parse, protocol},
    policy::decide,
    signatures::{Opinion, Ruling},
    tables::{Holder, Tables},
    verdict::{Outcome, Verdict},
};

use crate::frame::{EDGE, Shape};

const SLOT: u32 = 1;
/// The port of the app; others are closed.
const PORT: u16 = 80;

/// Modes and answers, as numbers of which some are the same.
#[derive(Arbitrary, Debug)]
struct World {
    malformed: u8,
    closed_ports: u8,
    tcp_fragments: u8,
    udp_fragments: u8,
    blocklist: u8,
    allowlist: u8,
    reflectors: u8,
    datagrams: u8,
    fragments: u8,
    session: u8,
    packet_rate: u8,
    syn_rate: u8,
    out_of_state: u8,
    ceiling: u8,
    challenge: u8,
    own_list: u8,
    global_list: u8,
    opinion: u8,
    holder: u8,
    may_be_listed: bool,
    has_access_entries: bool,
    has_signatures: bool,
    has_socket: bool,
    has_session: bool,
    is_reflector: bool,
    is_over_packet_rate: bool,
    is_over_syn_rate: bool,
    is_closed: bool,
    is_above: bool,
    challenges: bool,
    is_verified: bool,
    least: u8,
    most: u8,
}

pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let (Ok(world), Ok(shape)) = (World::arbitrary(&mut data), Shape::arbitrary(&mut data)) else {
        return;
    };
    let frame = shape.bytes();
    let mut packet = Packet::default();
    parse(frame.as_slice(), &mut packet);
    let facts = Facts::new(&world);
    let verdict = decide(&packet, &facts);
    let noted = facts.noted.take();
    assert_eq!(verdict, expected(&packet, &facts), "{packet:?}\n{world:?}");
    assert_eq!(decide(&packet, &facts), verdict, "the same again");
    assert_eq!(Verdict::from_bits(verdict.to_bits()), verdict);
    proves_only_what_it_should(&packet, &facts, verdict, noted);
}

/// A proof spares a flow the lists from then on: it is for segments that nothing objected to before,
/// of a peer that has answered.
fn proves_only_what_it_should(
    packet: &Packet,
    facts: &Facts,
    verdict: Verdict,
    noted: Option<u32>,
) {
    let Some(slot) = noted else { return };
    assert_eq!(slot, SLOT);
    assert_eq!(verdict.slot, SLOT);
    assert!(packet.continues_tcp());
    assert!([Holder::Connection, Holder::CookieTaker].contains(&facts.holder));
    let later = [Reason::Ceiling];
    let objection = verdict.outcome.objection();
    assert!(objection.is_none_or(|(reason, _)| later.contains(&reason)));
}

/// One rule, as it stands towards a packet.
struct Rule {
    slot: u32,
    mode: u32,
    reason: Reason,
    matches: bool,
}

/// The verdict of the rules of which all are asked, in order.
fn expected(packet: &Packet, facts: &Facts) -> Verdict {
    let (rules, slot, may_answer) = rules(packet, facts);
    let mut matching = rules
        .iter()
        .filter(|rule| rule.matches && rule.mode != mode::OFF);
    let first = matching.clone().next();
    let verdict = |rule: &Rule, outcome| Verdict {
        slot: rule.slot,
        outcome,
    };
    if let Some(rule) = matching.find(|rule| rule.mode == mode::ENFORCE) {
        return verdict(rule, Outcome::Dropped(rule.reason));
    }
    if may_answer {
        return Verdict {
            slot,
            outcome: Outcome::Answered,
        };
    }
    first.map_or(
        Verdict {
            slot,
            outcome: Outcome::Passed,
        },
        |rule| verdict(rule, Outcome::Monitored(rule.reason)),
    )
}

/// The rules that a packet meets, where it ends if none objects, and whether it is then answered.
fn rules(packet: &Packet, facts: &Facts) -> (Vec<Rule>, u32, bool) {
    let app = &facts.app;
    let mut rules = Vec::new();
    let mut at = |slot, mode, reason, matches| {
        rules.push(Rule {
            slot,
            mode,
            reason,
            matches,
        });
    };
    let is_ours = packet.kind == Kind::Addressed && facts.edge(&packet.destination).is_some();
    if packet.kind == Kind::Unaddressed || is_ours {
        let defect = packet.defect.unwrap_or(Reason::Malformed);
        let matches = packet.defect.is_some();
        at(HOST_SLOT, facts.settings.malformed, defect, matches);
    }
    let is_tcp = packet.protocol == protocol::TCP;
    if !is_ours || !is_tcp && packet.protocol != protocol::UDP {
        return (rules, HOST_SLOT, false);
    }
    if packet.fragment == Fragment::Later {
        let mode = if is_tcp {
            facts.edge.tcp_fragments
        } else {
            facts.edge.udp_fragments
        };
        at(HOST_SLOT, mode, Reason::Fragment, true);
        return (rules, HOST_SLOT, false);
    }
    if !packet.has_ports {
        return (rules, HOST_SLOT, false);
    }
    let opens = packet.opens_tcp();
    if packet.destination_port != PORT {
        let reason = if is_tcp && !opens {
            Reason::OutOfState
        } else {
            Reason::ClosedPort
        };
        let mode = facts.settings.closed_ports;
        at(HOST_SLOT, mode, reason, !facts.has_socket);
        return (rules, HOST_SLOT, false);
    }
    let may_be_known = app.out_of_state != mode::OFF && packet.continues_tcp();
    let is_known = may_be_known && packet.defect.is_none() && facts.is_verified;
    if !is_known {
        let own = if facts.may_be_listed && app.has_access_entries != 0 {
            facts.own
        } else {
            Listed::Nowhere
        };
        let is_blocked = own == Listed::Blocked || facts.global == Listed::Blocked;
        let is_blocked = facts.may_be_listed && is_blocked;
        at(SLOT, app.blocklist, Reason::Blocked, is_blocked);
        at(
            SLOT,
            app.allowlist,
            Reason::NotAllowed,
            own != Listed::Allowed,
        );
        if !is_tcp {
            at(SLOT, app.reflectors, Reason::Reflector, facts.is_reflector);
            let length = u32::from(packet.datagram_length);
            let fits = app.datagram_least <= length && length <= app.datagram_most;
            at(SLOT, app.datagrams, Reason::DatagramSize, !fits);
        }
        let is_first = packet.fragment == Fragment::First;
        at(SLOT, app.fragments, Reason::Fragment, is_first);
    }
    if app.mask_count != 0 {
        if let Some(reason) = facts.opinion.monitored {
            at(SLOT, mode::MONITOR, reason, true);
        }
        match facts.opinion.ruling {
            Ruling::Pass => return (rules, SLOT, false),
            Ruling::Drop(reason) => at(SLOT, mode::ENFORCE, reason, true),
            Ruling::Silent => {}
        }
    }
    at(SLOT, app.session, Reason::NoTcpSession, !facts.has_session);
    // Before the rates, if it enforces.
    let is_early = !is_known && app.ceiling.mode == mode::ENFORCE;
    at(
        SLOT,
        app.ceiling.mode,
        Reason::Ceiling,
        is_early && facts.is_closed,
    );
    let admission = facts.admission;
    at(
        SLOT,
        app.packet_rate.mode,
        Reason::PacketRate,
        admission.over_packet_rate,
    );
    at(
        SLOT,
        app.syn_rate.mode,
        Reason::SynRate,
        admission.over_syn_rate,
    );
    if !is_known && is_tcp && !opens {
        let is_stray = [Holder::Nobody, Holder::Listener].contains(&facts.holder);
        at(SLOT, app.out_of_state, Reason::OutOfState, is_stray);
    }
    at(SLOT, app.ceiling.mode, Reason::Ceiling, facts.is_above);
    let has_listener = [Holder::Listener, Holder::CookieTaker].contains(&facts.holder);
    let may_answer = !is_known
        && opens
        && packet.fragment == Fragment::Whole
        && packet.defect.is_none()
        && app.challenge != challenge::NEVER
        && facts.challenges
        && has_listener;
    (rules, SLOT, may_answer)
}

/// The world, as the policy asks for it.
struct Facts {
    settings: Settings,
    app: App,
    edge: Edge,
    own: Listed,
    global: Listed,
    may_be_listed: bool,
    has_socket: bool,
    has_session: bool,
    is_reflector: bool,
    admission: Admission,
    is_closed: bool,
    is_above: bool,
    challenges: bool,
    is_verified: bool,
    opinion: Opinion,
    holder: Holder,
    /// The slot that a flow has proved itself to.
    noted: Cell<Option<u32>>,
}

impl Facts {
    fn new(world: &World) -> Self {
        let mode = |number: u8| [mode::OFF, mode::MONITOR, mode::ENFORCE][usize::from(number % 3)];
        let listed = |number: u8| {
            [Listed::Nowhere, Listed::Blocked, Listed::Allowed][usize::from(number % 3)]
        };
        let limit = |number: u8| RateLimit {
            mode: mode(number),
            ..RateLimit::default()
        };
        let app = App {
            blocklist: mode(world.blocklist),
            allowlist: mode(world.allowlist),
            reflectors: mode(world.reflectors),
            fragments: mode(world.fragments),
            has_access_entries: world.has_access_entries.into(),
            out_of_state: mode(world.out_of_state),
            challenge: u32::from(world.challenge % 3),
            packet_rate: limit(world.packet_rate),
            syn_rate: limit(world.syn_rate),
            mask_count: world.has_signatures.into(),
            ceiling: Ceiling {
                mode: mode(world.ceiling),
                ..Ceiling::default()
            },
            session: mode(world.session),
            datagrams: mode(world.datagrams),
            datagram_least: world.least.into(),
            datagram_most: world.most.into(),
            ..App::default()
        };
        Self {
            settings: Settings {
                malformed: mode(world.malformed),
                closed_ports: mode(world.closed_ports),
                ..Settings::default()
            },
            app,
            edge: Edge {
                tcp_directory: 1,
                udp_directory: 1,
                tcp_fragments: mode(world.tcp_fragments),
                udp_fragments: mode(world.udp_fragments),
            },
            own: listed(world.own_list),
            global: listed(world.global_list),
            may_be_listed: world.may_be_listed,
            has_socket: world.has_socket,
            has_session: world.has_session,
            is_reflector: world.is_reflector,
            admission: Admission {
                over_packet_rate: world.is_over_packet_rate,
                over_syn_rate: world.is_over_syn_rate,
            },
            is_closed: world.is_closed,
            is_above: world.is_above,
            challenges: world.challenges,
            is_verified: world.is_verified,
            opinion: opinion(world.opinion),
            holder: holder(world.holder),
            noted: Cell::new(None),
        }
    }
}

fn opinion(number: u8) -> Opinion {
    let reasons = [Reason::CustomRule, Reason::Signature];
    let reason = |number: u8| reasons[usize::from(number % 2)];
    Opinion {
        monitored: (number & 1 != 0).then(|| reason(number >> 1)),
        ruling: match number >> 2 & 3 {
            0 | 1 => Ruling::Silent,
            2 => Ruling::Pass,
            _ => Ruling::Drop(reason(number >> 4)),
        },
    }
}

fn holder(number: u8) -> Holder {
    match number % 5 {
        0 => Holder::Nobody,
        1 => Holder::Listener,
        2 => Holder::CookieTaker,
        3 => Holder::HalfOpen,
        _ => Holder::Connection,
    }
}

impl Tables for Facts {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn edge(&self, destination: &Address) -> Option<Edge> {
        let last = destination.low_bits() & 0xff;
        (last == u32::from(EDGE)).then_some(self.edge)
    }

    fn port_entry(&self, page: u32, index: u8) -> u16 {
        let [high, low] = PORT.to_be_bytes();
        match page {
            1 if index == high => 2,
            2 if index == low => 1,
            _ => 0,
        }
    }

    fn app(&self, slot: u32) -> Option<impl Borrow<App>> {
        (slot <= SLOT).then_some(self.app)
    }

    fn may_be_listed(&self, _source: &Address) -> bool {
        self.may_be_listed
    }

    fn look_up(&self, scope: u32, _source: &Address) -> Listed {
        if scope == GLOBAL_SCOPE {
            self.global
        } else {
            self.own
        }
    }

    fn reflector_ports(&self, _set: u32, _word: u16) -> u64 {
        if self.is_reflector { u64::MAX } else { 0 }
    }

    fn has_socket(&self, _packet: &Packet) -> bool {
        self.has_socket
    }

    fn judge_signatures(&self, _packet: &Packet, _slot: u32, _app: &App) -> Opinion {
        assert_eq!(Opinion::from_bits(self.opinion.to_bits()), self.opinion);
        self.opinion
    }

    fn admit(&self, _packet: &Packet, _slot: u32, _app: &App) -> Admission {
        self.admission
    }

    fn has_tcp_session(&self, _source: &Address, _app: &App) -> bool {
        self.has_session
    }

    fn is_closed_to(&self, _packet: &Packet, _slot: u32, _app: &App) -> bool {
        self.is_closed
    }

    fn is_above_ceiling(&self, packet: &Packet, is_verified: bool, _slot: u32, _app: &App) -> bool {
        assert!(!is_verified || packet.tcp_flags & (flag::SYN | flag::ACK) != flag::SYN);
        self.is_above
    }

    fn is_verified(&self, _packet: &Packet, slot: u32) -> bool {
        self.is_verified && slot == SLOT
    }

    fn verify(&self, _packet: &Packet, slot: u32) {
        self.noted.set(Some(slot));
    }

    fn holder(&self, _packet: &Packet) -> Holder {
        self.holder
    }

    fn challenges(&self, _slot: u32, _app: &App) -> bool {
        self.challenges
    }
}
