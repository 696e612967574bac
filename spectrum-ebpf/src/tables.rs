//! What the policy asks of the configuration and of the past.

use core::borrow::Borrow;

use spectrum_common::{
    address::Address,
    app::{App, HOST_SLOT},
    edge::Edge,
    settings::Settings,
};

use crate::{
    access::Listed, geo::Objection, limits::Admission, parse::Packet, signatures::Opinion,
};

/// The tables that the daemon fills and the program reads: BPF maps in the kernel, copies of their
/// elements anywhere else.
pub trait Tables {
    fn settings(&self) -> &Settings;

    /// `None` if the destination is no edge address.
    fn edge(&self, destination: &Address) -> Option<Edge>;

    /// Element `index` of a page of the map `ports`; 0 if there is no such page.
    fn port_entry(&self, page: u32, index: u8) -> u16;

    /// `None` if no app can be at `slot`.
    fn app(&self, slot: u32) -> Option<impl Borrow<App>>;

    /// See [`may_be_listed`](crate::access::may_be_listed).
    fn may_be_listed(&self, source: &Address) -> bool;

    /// See [`look_up`](crate::access::look_up).
    fn look_up(&self, scope: u32, source: &Address) -> Listed;

    /// The slot of the app at which the packet's source was found to be blocked a moment ago; see
    /// [`refusals::find`](crate::refusals::find). Only asked of packets that
    /// [`refusals::is_plain`](crate::refusals::is_plain) says yes to.
    fn refused_at(&self, packet: &Packet) -> Option<u32>;

    /// Notes that the packet's source is blocked at the app at `slot`. Only told of such packets.
    fn refuse(&self, packet: &Packet, slot: u32);

    /// What the app's rules on countries and autonomous systems say of a source, see
    /// [`Objection::to`]. Only asked of apps that have some.
    fn judge_place(&self, source: &Address, is_exempt: bool, app: &App) -> Objection;

    /// Word `word` of a set of reflector ports; 0 if there is no such set.
    fn reflector_ports(&self, set: u32, word: u16) -> u64;

    /// Does a local socket want this packet? Only asked of packets with ports.
    fn has_socket(&self, packet: &Packet) -> bool;

    /// What the signatures of an app say of a packet, see
    /// [`signatures::judge`](crate::signatures::judge). Only asked of apps that have some.
    fn judge_signatures(&self, packet: &Packet, slot: u32, app: &App) -> Opinion;

    /// Charges a packet to its source at an app, see [`limits::admit`](crate::limits::admit).
    fn admit(&self, packet: &Packet, slot: u32, app: &App) -> Admission;

    /// Does the source hold a TCP connection with the app that this one asks for?
    fn has_tcp_session(&self, source: &Address, app: &App) -> bool;

    /// Has the source of the packet not proved to be real, while the app has no room for newcomers?
    /// See [`ceiling::is_closed`](crate::ceiling::is_closed). Only asked where there is a ceiling.
    fn is_closed_to(&self, packet: &Packet, slot: u32, app: &App) -> bool;

    /// Charges a packet to its app, see [`ceiling::admits`](crate::ceiling::admits): is it above
    /// the ceiling? Only asked where there is one. `is_verified` says that the packet belongs to a
    /// flow that has proved itself.
    fn is_above_ceiling(&self, packet: &Packet, is_verified: bool, slot: u32, app: &App) -> bool;

    /// Has the packet's flow proved itself to the app at `slot`, and is the proof still good? See
    /// [`flows::find`](crate::flows::find).
    fn is_verified(&self, packet: &Packet, slot: u32) -> bool;

    /// Notes that the packet's flow has proved itself to the app at `slot`.
    fn verify(&self, packet: &Packet, slot: u32);

    /// What this host knows of a TCP segment with ports.
    fn holder(&self, packet: &Packet) -> Holder;

    /// Counts a segment that belongs to no connection, and says whether its app gets too many; see
    /// [`surge::observe`](crate::surge::observe). Only asked where a few may pass.
    fn has_too_many_strays(&self, slot: u32, app: &App) -> bool;

    /// Counts a SYN to an app, and says whether it may be answered with a cookie; see
    /// [`surge::observe`](crate::surge::observe).
    fn challenges(&self, slot: u32, app: &App) -> bool;

    /// The slot of the app on a port, [`HOST_SLOT`] if there is none.
    #[inline(always)]
    fn app_slot(&self, directory: u32, port: u16) -> u32 {
        if directory == 0 {
            return HOST_SLOT;
        }
        // Not `to_be_bytes`: older verifiers know nothing of a number whose bytes were swapped.
        #[expect(clippy::cast_possible_truncation, reason = "the bytes of a port")]
        let (high, low) = ((port >> 8) as u8, port as u8);
        match self.port_entry(directory, high) {
            0 => HOST_SLOT,
            page => self.port_entry(page.into(), low).into(),
        }
    }

    /// Is `port` in a set of reflector ports?
    #[inline(always)]
    fn is_reflector(&self, set: u32, port: u16) -> bool {
        self.reflector_ports(set, port / 64) & (1 << (port % 64)) != 0
    }
}

/// The local socket that a TCP segment would reach.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// Only one that listens.
    Listener,
    /// One that listens, and will take the segment as the answer to a cookie.
    CookieTaker,
    /// One of this very flow, which proves nothing: a handshake that is not complete, or a connection
    /// that is over.
    HalfOpen,
    /// One of this very flow, whose peer has answered.
    Connection,
}
