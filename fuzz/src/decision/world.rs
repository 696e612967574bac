//! The world that the policy asks about: any modes, any answers.

use std::{borrow::Borrow, cell::Cell};

use arbitrary::Arbitrary;
use spectrum_common::{
    access::GLOBAL_SCOPE,
    address::Address,
    app::{App, RateLimit, mode},
    ceiling::Ceiling,
    edge::Edge,
    geo::{ANYWHERE, Answers, asked_by},
    reason::Reason,
    settings::Settings,
};
use spectrum_ebpf::{
    access::Listed,
    geo::Objection,
    limits::Admission,
    parse::{Packet, flag},
    refusals,
    signatures::{Opinion, Ruling},
    tables::{Holder, Tables},
};

use super::{PORT, SLOT};
use crate::frame::EDGE;

/// The questions that the app asks about places.
pub(super) const COUNTRY: u32 = 1;
pub(super) const SYSTEM: u32 = 64;

/// Modes and answers, as numbers of which some are the same.
#[derive(Arbitrary, Debug)]
pub(super) struct World {
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
    may_challenge: bool,
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
    may_pass_strays: bool,
    has_too_many_strays: bool,
    is_refused: bool,
    least: u8,
    most: u8,
    countries: u8,
    asns: u8,
    is_abroad: bool,
    is_in_refused_system: bool,
}

/// The world, as the policy asks for it.
pub(super) struct Facts {
    pub(super) settings: Settings,
    pub(super) app: App,
    pub(super) edge: Edge,
    pub(super) own: Listed,
    pub(super) global: Listed,
    pub(super) may_be_listed: bool,
    pub(super) has_socket: bool,
    pub(super) has_session: bool,
    pub(super) is_reflector: bool,
    pub(super) admission: Admission,
    pub(super) is_closed: bool,
    pub(super) is_above: bool,
    pub(super) challenges: bool,
    pub(super) has_too_many_strays: bool,
    pub(super) is_refused: bool,
    pub(super) is_verified: bool,
    pub(super) opinion: Opinion,
    pub(super) answers: Answers,
    pub(super) holder: Holder,
    /// The slot that a flow has proved itself to.
    pub(super) noted: Cell<Option<u32>>,
    /// The slot at which a source was refused.
    pub(super) refused: Cell<Option<u32>>,
}

impl Facts {
    pub(super) fn new(world: &World) -> Self {
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
            out_of_state_above: world.may_pass_strays.into(),
            challenge: world.may_challenge.into(),
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
            geo: if [mode(world.countries), mode(world.asns)] == [mode::OFF; 2] {
                0
            } else {
                asked_by::APP
            },
            countries: mode(world.countries),
            refused_countries: COUNTRY,
            asns: mode(world.asns),
            refused_asns: SYSTEM,
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
            has_too_many_strays: world.has_too_many_strays,
            is_refused: world.is_refused,
            is_verified: world.is_verified,
            opinion: opinion(world.opinion),
            answers: Answers {
                words: [
                    1 << ANYWHERE | u64::from(world.is_abroad) << COUNTRY,
                    world.is_in_refused_system.into(),
                ],
            },
            holder: holder(world.holder),
            noted: Cell::new(None),
            refused: Cell::new(None),
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

    fn judge_place(&self, _source: &Address, is_exempt: bool, app: &App) -> Objection {
        assert_ne!(app.geo & asked_by::APP, 0, "asked for nothing");
        let objection = Objection::to(&self.answers, is_exempt, app);
        assert_eq!(Objection::from_bits(objection.to_bits()), objection);
        objection
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

    fn refused_at(&self, packet: &Packet) -> Option<u32> {
        assert!(refusals::is_plain(packet), "asked of {packet:?}");
        self.is_refused.then_some(SLOT)
    }

    fn refuse(&self, packet: &Packet, slot: u32) {
        assert!(refusals::is_plain(packet), "told of {packet:?}");
        self.refused.set(Some(slot));
    }

    fn has_too_many_strays(&self, _slot: u32, app: &App) -> bool {
        assert_ne!(app.out_of_state_above, 0, "asked for nothing");
        self.has_too_many_strays
    }

    fn challenges(&self, _slot: u32, _app: &App) -> bool {
        self.challenges
    }
}
