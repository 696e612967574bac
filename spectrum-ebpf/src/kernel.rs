//! The kernel's side of the decision: the frame, and the tables as BPF maps. Each module below owns
//! the maps of its concern.
//!
//! What the verifier of Linux 6.1 asks beyond that of today: the key of a map lies on the stack, and
//! not in memory that a global function was given; and a function takes at least 32 bytes of the
//! stack (`cargo xtask test --kernels`).

pub(crate) mod access;
pub(crate) mod apps;
pub(crate) mod ceilings;
pub(crate) mod counters;
pub(crate) mod edges;
pub(crate) mod events;
pub(crate) mod facts;
pub(crate) mod flows;
pub(crate) mod forwards;
pub(crate) mod frame;
pub(crate) mod geo;
pub(crate) mod handshake;
pub(crate) mod headers;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod proven;
pub(crate) mod refusals;
pub(crate) mod samples;
pub(crate) mod settings;
pub(crate) mod signatures;
pub(crate) mod sockets;
pub(crate) mod sources;
pub(crate) mod surges;
pub(crate) mod vary;

use core::borrow::Borrow;

use aya_ebpf::programs::XdpContext;
use spectrum_common::{address::Address, app::App, edge::Edge, settings::Settings};
use spectrum_ebpf::{
    access::Listed,
    geo::Objection,
    limits::Admission,
    parse::Packet,
    signatures::Opinion,
    tables::{Holder, Tables},
};

/// The tables, for one packet.
pub(crate) struct Maps<'packet> {
    pub(crate) settings: &'static Settings,
    ctx: &'packet XdpContext,
}

impl<'packet> Maps<'packet> {
    /// `None` cannot happen: the map has one element.
    #[inline(always)]
    pub(crate) fn new(ctx: &'packet XdpContext) -> Option<Self> {
        Some(Self {
            settings: settings::get()?,
            ctx,
        })
    }
}

impl Tables for Maps<'_> {
    #[inline(always)]
    fn settings(&self) -> &Settings {
        self.settings
    }

    #[inline(always)]
    fn edge(&self, destination: &Address) -> Option<Edge> {
        edges::edge(destination)
    }

    #[inline(always)]
    fn port_entry(&self, page: u32, index: u8) -> u16 {
        edges::port_entry(page, index)
    }

    #[inline(always)]
    fn app(&self, slot: u32) -> Option<impl Borrow<App>> {
        apps::app(slot)
    }

    #[inline(always)]
    fn may_be_listed(&self, source: &Address) -> bool {
        access::may_be_listed(source)
    }

    #[inline(always)]
    fn look_up(&self, scope: u32, source: &Address) -> Listed {
        access::look_up(scope, source)
    }

    #[inline(always)]
    fn judge_place(&self, source: &Address, is_exempt: bool, app: &App) -> Objection {
        Objection::from_bits(geo::judge_place(source, is_exempt.into(), app))
    }

    #[inline(always)]
    fn reflector_ports(&self, set: u32, word: u16) -> u64 {
        apps::reflector_ports(set, word)
    }

    #[inline(always)]
    fn has_socket(&self, packet: &Packet) -> bool {
        sockets::wants(self.ctx, packet)
    }

    #[inline(always)]
    fn judge_signatures(&self, packet: &Packet, slot: u32, app: &App) -> Opinion {
        signatures::judge(self.ctx, packet, slot, app)
    }

    #[inline(always)]
    fn admit(&self, packet: &Packet, slot: u32, app: &App) -> Admission {
        sources::admit(packet, slot, app)
    }

    #[inline(always)]
    fn has_tcp_session(&self, source: &Address, app: &App) -> bool {
        proven::has_tcp_session(source, app) != 0
    }

    #[inline(always)]
    fn is_closed_to(&self, packet: &Packet, slot: u32, app: &App) -> bool {
        ceilings::closed(packet, slot, app) != 0
    }

    #[inline(always)]
    fn is_above_ceiling(&self, packet: &Packet, is_verified: bool, slot: u32, app: &App) -> bool {
        ceilings::above(packet, is_verified.into(), slot, app) != 0
    }

    #[inline(always)]
    fn refused_at(&self, packet: &Packet) -> Option<u32> {
        refusals::find(packet, self.settings)
    }

    #[inline(always)]
    fn refuse(&self, packet: &Packet, slot: u32) {
        refusals::note(packet, slot, self.settings);
    }

    #[inline(always)]
    fn is_verified(&self, packet: &Packet, slot: u32) -> bool {
        flows::verified_slot(packet, self.settings) == Some(slot)
    }

    #[inline(always)]
    fn verify(&self, packet: &Packet, slot: u32) {
        flows::verify(packet, slot, self.settings);
    }

    #[inline(always)]
    fn holder(&self, packet: &Packet) -> Holder {
        sockets::holder(self.ctx, packet)
    }

    #[inline(always)]
    fn has_too_many_strays(&self, slot: u32, app: &App) -> bool {
        surges::stray_surges(slot, app) != 0
    }

    #[inline(always)]
    fn challenges(&self, slot: u32, app: &App) -> bool {
        surges::syn_surges(slot, app) != 0 && handshake::can_answer(self.settings)
    }
}
