//! What the program is told so that it can answer SYNs as the host's own TCP would, since when it
//! does, and since when it drops what belongs to no connection.

use std::{net::SocketAddr, time::SystemTime};

use spectrum_common::{
    address::Address,
    app::{App, mode},
    handshake::{Handshake, LISTENERS_AT_ONCE, Listener, ability},
    maps as names,
};
use spectrum_ebpf::{
    answer,
    flows::{self, FlowKey, Now},
    parse::Packet,
    surge::{self, Threshold},
};

use super::{attach::AttachMode, clock, error::Error, filter::Filter, interface, maps::Maps, veth};
use crate::config::SynAnswers;

/// How the host's own TCP shakes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub sack: bool,
    pub window_scaling: bool,
    /// Explicit congestion notification, if a client asks for it.
    pub ecn: bool,
    /// Bytes that a new connection can receive.
    pub window: u32,
    pub window_scale: u8,
    /// Time to live of what the host sends.
    pub hop_limit: u8,
}

/// The smallest MTU that IPv6 knows; whatever an interface says, IPv4 works with it too.
const MIN_MTU: u32 = 1280;
/// What Ethernet carries, for filters without an interface.
const ETHERNET_MTU: u32 = 1500;
/// IP and TCP headers without options.
const IPV4_HEADERS: u32 = 40;
const IPV6_HEADERS: u32 = 60;

impl Filter {
    /// Whether the filter can send what it answers. In generic mode it could only through the network
    /// stack, which takes its checksums for unfinished ones on virtual interfaces; and one end of a
    /// virtual pair loses it, unless the other end has a program.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn can_answer(&self, answers: SynAnswers) -> Result<bool, Error> {
        let Some(interface) = self.interface() else {
            return Ok(false);
        };
        Ok(self.mode() == Some(AttachMode::Native)
            && match answers {
                SynAnswers::On => true,
                SynAnswers::Auto => {
                    !interface::has_driver(interface, interface::VETH)? || peer_receives(interface)
                }
                SynAnswers::Off => false,
            })
    }

    /// Lets the program answer SYNs on these terms; without terms it answers none.
    ///
    /// It begins when listeners have been [marked](Self::mark_listeners), and ends by itself when they
    /// have not been for a while.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_terms(&mut self, terms: Option<&Terms>) -> Result<(), Error> {
        let mtu = match self.interface() {
            Some(interface) => interface::mtu(interface)?.max(MIN_MTU),
            None => ETHERNET_MTU,
        };
        let maps = self.maps_mut();
        let before = maps.handshake()?;
        let wanted = Handshake {
            marked: before.marked,
            ..terms.map_or_else(Handshake::default, |terms| layout(terms, mtu))
        };
        if wanted == before {
            return Ok(());
        }
        maps.handshake
            .set(0, wanted, 0)
            .map_err(Error::map(names::HANDSHAKE, "write"))
    }

    /// Makes listeners of this host take answers to cookies for two minutes, and returns how many were
    /// there. `net.ipv4.tcp_syncookies` must be 2 meanwhile.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mark_listeners(&mut self, listeners: &[SocketAddr]) -> Result<usize, Error> {
        let mut marked = 0;
        for listeners in listeners.chunks(LISTENERS_AT_ONCE) {
            let list: Vec<u8> = listeners.iter().flat_map(listed).collect();
            marked += self
                .test_run_program(names::MARK_LISTENERS, &list, 1)?
                .action as usize;
        }
        Ok(marked)
    }
}

/// What cannot be seen is not trusted.
fn peer_receives(interface: &str) -> bool {
    veth::peer_receives(interface).unwrap_or_else(|error| {
        log::debug!("{interface}: its other end cannot be seen: {error}");
        false
    })
}

fn layout(terms: &Terms, mtu: u32) -> Handshake {
    let ability = |has: bool, bit: u32| if has { bit } else { 0 };
    Handshake {
        marked: 0,
        abilities: ability::ANSWER
            | ability::TIMESTAMPS
            | ability(terms.sack, ability::SACK)
            | ability(terms.window_scaling, ability::WINDOW_SCALE)
            | ability(terms.ecn, ability::ECN),
        window: terms.window,
        window_scale: terms.window_scale.into(),
        // The option holds 16 bits.
        segment_ipv4: (mtu - IPV4_HEADERS).min(u16::MAX.into()),
        segment_ipv6: (mtu - IPV6_HEADERS).min(u16::MAX.into()),
        hop_limit: terms.hop_limit.into(),
    }
}

/// A [`Listener`] as bytes.
fn listed(address: &SocketAddr) -> [u8; size_of::<Listener>()] {
    let mut bytes = [0; size_of::<Listener>()];
    let words = Address::from(address.ip()).words_be();
    let words = words.into_iter().chain([u32::from(address.port())]);
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

impl Maps {
    /// When the program began to answer the SYNs of the app at `slot`; `None` if it does not.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn challenged_since(&self, slot: u32, app: &App) -> Result<Option<SystemTime>, Error> {
        let handshake = self.handshake()?;
        let surge = self
            .challenges
            .get(&slot, 0)
            .map_err(Error::map(names::CHALLENGES, "read"))?;
        let (now, ticks) = (clock::jiffies(), clock::ticks_per_second());
        if app.challenge == 0 || !answer::can_answer(&handshake, now, ticks) {
            return Ok(None);
        }
        let since = surge::since(&surge, Threshold::of_syns(app), now, ticks);
        Ok(since.map(clock::wall_time_of_jiffies))
    }

    /// Since when the app at `slot` has had more segments of no connection than may pass; `None` if it
    /// has not, or if none may.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn strays_since(&self, slot: u32, app: &App) -> Result<Option<SystemTime>, Error> {
        if app.out_of_state == mode::OFF || app.out_of_state_above == 0 {
            return Ok(None);
        }
        let surge = self
            .strays
            .get(&slot, 0)
            .map_err(Error::map(names::STRAYS, "read"))?;
        let (now, ticks) = (clock::jiffies(), clock::ticks_per_second());
        let since = surge::since(&surge, Threshold::of_strays(app), now, ticks);
        Ok(since.map(clock::wall_time_of_jiffies))
    }

    /// Notes that a flow has proved itself to the app at `slot`, as the program does: for benches, which
    /// want more flows than a host has sockets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn verify(&mut self, client: SocketAddr, edge: SocketAddr, slot: u32) -> Result<(), Error> {
        let settings = self.settings()?;
        let packet = Packet {
            source: client.ip().into(),
            source_port: client.port(),
            destination: edge.ip().into(),
            destination_port: edge.port(),
            ..Packet::default()
        };
        let key = FlowKey::of(&packet, settings.hash_seed);
        let mut set = self
            .flows
            .get(&key.set_index(), 0)
            .map_err(Error::map(names::FLOWS, "read"))?;
        let now = Now {
            // A second ago: our clock may be ahead of the kernel's, to which a proof that is yet to
            // come is none.
            jiffies: clock::jiffies() - u64::from(clock::ticks_per_second()),
            generation: settings.policy_generation,
        };
        flows::note(&mut set, &key, slot, now);
        self.flows
            .set(key.set_index(), set, 0)
            .map_err(Error::map(names::FLOWS, "write"))
    }

    fn handshake(&self) -> Result<Handshake, Error> {
        self.handshake
            .get(&0, 0)
            .map_err(Error::map(names::HANDSHAKE, "read"))
    }
}
