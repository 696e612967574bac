//! The kernel's side of the decision: the frame, and the tables as BPF maps. Each module below owns
//! the maps of its concern.

pub(crate) mod access;
pub(crate) mod apps;
pub(crate) mod counters;
pub(crate) mod edges;
pub(crate) mod events;
pub(crate) mod frame;
pub(crate) mod settings;
pub(crate) mod sockets;
pub(crate) mod sources;

use core::borrow::Borrow;

use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, programs::XdpContext};
use spectrum_common::{
    access::{AccessEntry, AccessKey},
    address::Address,
    app::App,
    edge::Edge,
    settings::Settings,
};
use spectrum_ebpf::{
    access::Family,
    limits::{Account, Admission, Charge},
    parse::Packet,
    tables::Tables,
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
    fn access_filter(&self, family: Family, word: u32) -> u64 {
        access::filter(family, word)
    }

    #[inline(always)]
    fn access_host(&self, key: &AccessKey) -> Option<AccessEntry> {
        access::host(key)
    }

    #[inline(always)]
    fn access_net(&self, bits: u32, key: &AccessKey) -> Option<AccessEntry> {
        access::net(bits, key)
    }

    #[inline(always)]
    fn boot_seconds(&self) -> u32 {
        const NANOS_PER_SECOND: u64 = 1_000_000_000;
        // SAFETY: the helper takes no arguments.
        let nanos = unsafe { bpf_ktime_get_boot_ns() };
        #[expect(clippy::cast_possible_truncation, reason = "136 years")]
        let seconds = (nanos / NANOS_PER_SECOND) as u32;
        seconds
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
    fn admit(&self, account: &Account, charge: &Charge, app: &App) -> Admission {
        sources::admit(account, charge, app)
    }
}
