//! An app, as the program knows it.

use std::sync::Arc;

use spectrum_common::{
    app::{App, RateLimit, mode},
    ceiling::Ceiling,
};
use spectrum_ebpf::{ceiling, limits};

use super::mode_number;
use crate::{
    config::{self, Config, Mode, Rate, Transport, When},
    dataplane::clock,
};

/// All of an app but what other apps and other things of the plan have a part in.
pub(super) fn layout(config: &Config, app: &config::App, reflector_set: u32) -> App {
    let protection = &app.protection;
    let access = |mode| {
        if app.ip_firewall {
            mode_number(mode)
        } else {
            mode::OFF
        }
    };
    let is_tcp = app.transport == Transport::Tcp;
    let only = |transport, mode| {
        if app.transport == transport {
            mode
        } else {
            Mode::Off
        }
    };
    App {
        id: app.id.0,
        blocklist: access(protection.blocklist),
        allowlist: if protection.allow.is_empty() {
            mode::OFF
        } else {
            access(protection.allowlist)
        },
        reflectors: mode_number(only(Transport::Udp, protection.reflectors)),
        reflector_set,
        fragments: mode_number(protection.fragments),
        has_access_entries: 0,
        out_of_state: mode_number(only(Transport::Tcp, protection.out_of_state)),
        out_of_state_above: protection.out_of_state_above,
        challenge: u32::from(is_tcp && protection.syn_challenge.when != When::Never),
        challenge_above: match protection.syn_challenge.when {
            When::Auto => protection.syn_challenge.above,
            When::Never | When::Always => 0,
        },
        packet_rate: rate_limit(protection.packet_rate),
        syn_rate: rate_limit(Rate {
            mode: only(Transport::Tcp, protection.syn_rate.mode),
            ..protection.syn_rate
        }),
        ceiling: ceiling(&protection.ceiling),
        session_app: session_app(config, app),
        session: protection
            .tcp_session
            .as_ref()
            .map_or(mode::OFF, |session| mode_number(session.mode)),
        datagrams: mode_number(only(Transport::Udp, protection.datagrams.mode)),
        datagram_least: protection.datagrams.min.into(),
        datagram_most: protection.datagrams.max.into(),
        forwards: u32::from(app.may_be_carried()),
        ..App::default()
    }
}

fn rate_limit(rate: Rate) -> RateLimit {
    let ticks = clock::ticks_per_second();
    limits::rate_limit(mode_number(rate.mode), rate.per_second, rate.burst, ticks)
}

/// The id of the app with which clients of `app` have to be connected.
fn session_app(config: &Config, app: &config::App) -> [u8; 16] {
    let wanted = app.protection.tcp_session.as_ref();
    let is_it = |other: &&Arc<config::App>| wanted.is_some_and(|wanted| wanted.app == other.name);
    let found = config.apps.iter().find(is_it);
    found.map_or([0; 16], |other| other.id.0)
}

fn ceiling(ceiling: &config::Ceiling) -> Ceiling {
    let bounds = [
        ceiling.packets_per_second,
        ceiling.bytes_per_second,
        ceiling.new_flows_per_second,
    ];
    let mode = if bounds == [None; 3] {
        Mode::Off
    } else {
        ceiling.mode
    };
    let [packets, bytes, flows] = bounds.map(Option::unwrap_or_default);
    let ticks = clock::ticks_per_second();
    ceiling::ceiling(mode_number(mode), packets, bytes, flows, ticks)
}
