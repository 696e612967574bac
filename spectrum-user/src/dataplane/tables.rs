//! The pinned maps as the policy's tables: `spectrum why` runs the very code that decides in the
//! kernel, against the very tables, and disturbs neither counters nor limits.

use std::{borrow::Borrow, collections::BTreeMap, net::IpAddr};

use spectrum_common::{
    access::Line,
    address::Address,
    app::{App, HOST_SLOT},
    edge::Edge,
    geo::Answers,
    maps as names,
    settings::Settings,
    signature::{SignatureMask, SignatureRule, SignatureSet, action},
};
use spectrum_ebpf::{
    access::{self, Listed, Lists},
    geo::Objection,
    limits::Admission,
    parse::{Kind, Packet, flag, protocol},
    policy,
    proven::Place,
    signatures::{self, Opinion, Signatures},
    tables::{Holder, Tables},
    verdict::Verdict,
};

use super::{clock, error::Error, maps::Maps};
use crate::config::Transport;

/// A client's port that no rule singles out.
const CLIENT_PORT: u16 = 50_000;

impl Maps {
    /// What the data plane would do with the first packet that `source` sends to an app: the one
    /// on `port` of any edge address of the source's family. `None` if there is no such address.
    ///
    /// Rates are not judged: they depend on the packets before.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn verdict_on(
        &self,
        source: IpAddr,
        slot: u32,
        transport: Transport,
        port: u16,
    ) -> Result<Option<Verdict>, Error> {
        let tables = View {
            maps: self,
            settings: self.settings()?,
            edges: self.edges()?.into_iter().collect(),
        };
        let source = Address::from(source);
        for (&destination, edge) in &tables.edges {
            let (directory, protocol) = match transport {
                Transport::Tcp => (edge.tcp_directory, protocol::TCP),
                Transport::Udp => (edge.udp_directory, protocol::UDP),
            };
            let same_family = destination.is_ipv4() == source.is_ipv4();
            if same_family && tables.app_slot(directory, port) == slot {
                let app = self.apps.get(&slot, 0);
                let app = app.map_err(Error::map(names::APPS, "read"))?;
                let packet = Packet {
                    datagram_length: u16::try_from(app.datagram_least).unwrap_or_default(),
                    ..first_packet(source, destination, protocol, port)
                };
                let verdict = policy::decide(&packet, &tables);
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    }

    /// The slot of the app that a packet is for; [`HOST_SLOT`] if there is none.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub(super) fn slot_of(&self, packet: &Packet) -> Result<u32, Error> {
        let tables = View {
            maps: self,
            settings: self.settings()?,
            edges: self.edges()?.into_iter().collect(),
        };
        let directory = tables.edge(&packet.destination).map(|edge| {
            if packet.protocol == protocol::TCP {
                edge.tcp_directory
            } else {
                edge.udp_directory
            }
        });
        Ok(match directory {
            Some(directory) if packet.has_ports => {
                tables.app_slot(directory, packet.destination_port)
            }
            Some(_) | None => HOST_SLOT,
        })
    }
}

fn first_packet(source: Address, destination: Address, protocol: u8, port: u16) -> Packet {
    Packet {
        kind: Kind::Addressed,
        source,
        destination,
        protocol,
        has_ports: true,
        tcp_flags: if protocol == protocol::TCP {
            flag::SYN
        } else {
            0
        },
        source_port: CLIENT_PORT,
        destination_port: port,
        ..Packet::default()
    }
}

/// Maps behind the questions of the policy. What cannot be read is not there, as in the kernel.
struct View<'a> {
    maps: &'a Maps,
    settings: Settings,
    edges: BTreeMap<Address, Edge>,
}

impl Tables for View<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn edge(&self, destination: &Address) -> Option<Edge> {
        self.edges.get(destination).copied()
    }

    fn port_entry(&self, page: u32, index: u8) -> u16 {
        let page = self.maps.ports.get(&page, 0).ok();
        let entry = page.and_then(|page| page.entries.get(usize::from(index)).copied());
        entry.unwrap_or_default()
    }

    fn app(&self, slot: u32) -> Option<impl Borrow<App>> {
        self.maps.apps.get(&slot, 0).ok()
    }

    fn may_be_listed(&self, source: &Address) -> bool {
        access::may_be_listed(|word| self.hint(word), source)
    }

    fn look_up(&self, scope: u32, source: &Address) -> Listed {
        // The table that is mapped here is one and the same.
        access::look_up(self, access::seed(self), scope, source).unwrap_or(Listed::Nowhere)
    }

    fn judge_place(&self, source: &Address, is_exempt: bool, app: &App) -> Objection {
        Objection::to(&self.maps.answers_about(source), is_exempt, app)
    }

    fn reflector_ports(&self, set: u32, word: u16) -> u64 {
        let set = self.maps.reflectors.get(&set, 0).ok();
        let word = set.and_then(|set| set.words.get(usize::from(word)).copied());
        word.unwrap_or_default()
    }

    /// Only asked for ports without an app, and [`Maps::verdict_on`] asks for none of those.
    fn has_socket(&self, _packet: &Packet) -> bool {
        true
    }

    /// Nobody knows what the payload will be: rules that look at it do not match.
    fn judge_signatures(&self, packet: &Packet, slot: u32, app: &App) -> Opinion {
        let rules = Rules {
            maps: self.maps,
            answers: self.maps.answers_about(&packet.source),
        };
        signatures::judge(&rules, [].as_slice(), packet, slot, app)
    }

    /// Judging would charge the source for a packet that it did not send.
    fn admit(&self, _packet: &Packet, _slot: u32, _app: &App) -> Admission {
        Admission::default()
    }

    fn has_tcp_session(&self, source: &Address, app: &App) -> bool {
        let place = Place::new(source, &app.session_app, self.settings.hash_seed);
        place.is_in(&self.maps.tcp_sessions.set(&place))
    }

    /// As [`View::admit`].
    fn is_closed_to(&self, _packet: &Packet, _slot: u32, _app: &App) -> bool {
        false
    }

    /// As [`View::admit`].
    fn is_above_ceiling(
        &self,
        _packet: &Packet,
        _is_verified: bool,
        _slot: u32,
        _app: &App,
    ) -> bool {
        false
    }

    /// Of each CPU another; the lists say the same.
    fn refused_at(&self, _packet: &Packet) -> Option<u32> {
        None
    }

    fn refuse(&self, _packet: &Packet, _slot: u32) {}

    /// What [`Maps::verdict_on`] asks about has no flow yet.
    fn is_verified(&self, _packet: &Packet, _slot: u32) -> bool {
        false
    }

    fn verify(&self, _packet: &Packet, _slot: u32) {}

    /// The first packet of a source finds the proxy's listener, and no connection.
    fn holder(&self, _packet: &Packet) -> Holder {
        Holder::Listener
    }

    /// The first packet of a source is no such segment.
    fn has_too_many_strays(&self, _slot: u32, _app: &App) -> bool {
        false
    }

    fn challenges(&self, slot: u32, app: &App) -> bool {
        self.maps
            .challenged_since(slot, app)
            .ok()
            .flatten()
            .is_some()
    }
}

/// The maps of the rules, for one packet.
struct Rules<'a> {
    maps: &'a Maps,
    answers: Answers,
}

impl Signatures for Rules<'_> {
    fn mask(&self, index: u32) -> Option<impl Borrow<SignatureMask>> {
        self.maps.signature_masks.get(&index, 0).ok()
    }

    fn set(&self, index: u32) -> Option<impl Borrow<SignatureSet>> {
        self.maps.signatures.get(&index, 0).ok()
    }

    fn rule(&self, index: u32) -> Option<impl Borrow<SignatureRule>> {
        self.maps.signature_rules.get(&index, 0).ok()
    }

    fn now_ns(&self) -> u64 {
        clock::monotonic_coarse_ns()
    }

    fn answers(&self) -> &Answers {
        &self.answers
    }

    /// As with the rates per source, nothing is charged, and so nothing is over a rate.
    fn hit(&self, _index: u32, rule: &SignatureRule, _packet: &Packet) -> bool {
        rule.action == action::RATE_LIMIT
    }
}

impl Lists for View<'_> {
    fn hint(&self, word: u32) -> u64 {
        self.maps.access.table().hint(word)
    }

    fn line(&self, index: u32) -> Option<impl Borrow<Line>> {
        self.maps.listed().line(index)
    }

    fn boot_seconds(&self) -> u32 {
        clock::since_boot_s()
    }
}
