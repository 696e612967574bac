//! What the policy is asked about: one packet, and a world in which anything may be wrong with it.

use core::cell::Cell;

use spectrum_common::{address::Address, ceiling::Ceiling, geo::Answers, settings::Settings};

use super::super::*;
use crate::{geo::Objection, limits::Admission, parse::flag, signatures::Opinion, tables::Holder};

pub(super) const SLOT: u32 = 1;
pub(super) const PORT: u16 = 80;

/// One edge address with one app, on TCP and UDP, and a source that everything is wrong with.
#[derive(Default)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) app: App,
    pub(super) edge: Edge,
    pub(super) global: Option<Listed>,
    pub(super) own: Option<Listed>,
    pub(super) has_socket: bool,
    pub(super) is_over: bool,
    pub(super) is_closed: bool,
    pub(super) opinion: Option<Opinion>,
    pub(super) holder: Option<Holder>,
    pub(super) challenges: bool,
    pub(super) has_too_many_strays: bool,
    pub(super) answers: Answers,
    pub(super) verified: Cell<Option<u32>>,
    pub(super) remembered: Option<u32>,
    pub(super) refused: Cell<Option<u32>>,
}

impl Tables for World {
    fn settings(&self) -> &Settings {
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

pub(super) fn edge() -> Address {
    Address::from_ipv4_be(1)
}

pub(super) fn syn() -> Packet {
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

pub(super) fn acknowledging(packet: Packet) -> Packet {
    Packet {
        tcp_flags: flag::ACK,
        ..packet
    }
}

/// The first fragment of a datagram from a DNS server.
pub(super) fn reflected() -> Packet {
    Packet {
        protocol: protocol::UDP,
        fragment: Fragment::First,
        tcp_flags: 0,
        source_port: 53,
        ..syn()
    }
}

pub(super) fn limit(mode: u32) -> spectrum_common::app::RateLimit {
    spectrum_common::app::RateLimit {
        mode,
        ..Default::default()
    }
}

/// A world in which every rule matches a packet made for it, in the given mode.
pub(super) fn hostile(mode: u32) -> World {
    World {
        settings: Settings {
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
