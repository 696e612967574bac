//! The way back: a valid configuration as documents in which every default is written out.
//!
//! Reading such a document gives the same configuration again.

mod bounds;
mod health;
mod limits;
mod origins;
mod routing;
mod tls;

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{
    Admission, App, Balance, EdgeIps, EventOutput, Feed, Host, Mode, Protection, ProxyProtocol,
    Rate, SynChallenge, Transport, When,
    rule::{Action, Family, Flags, Payload, Rule},
};
use crate::geo::Country;
use bounds::{AmplificationTable, CeilingTable, DatagramsTable};
use health::HealthTable;
use limits::LimitsTable;
use origins::{LookupTable, OriginsTable};
use routing::RoutingTable;
use tls::{ClientTlsTable, OriginTlsTable};

/// An app in the words of its document.
#[derive(Serialize)]
pub struct AppDocument<'a> {
    id: String,
    dns: Dns<'a>,
    protocol: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origin_direct: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_dns: Option<LookupTable<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_port: Option<Span>,
    edge_ips: EdgeIpsTable<'a>,
    argo_smart_routing: bool,
    ip_firewall: bool,
    proxy_protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol_on: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_path: Option<&'static str>,
    tls: &'static str,
    traffic_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_tls: Option<ClientTlsTable<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_tls: Option<OriginTlsTable<'a>>,
    limits: LimitsTable,
    timeouts: TimeoutsTable,
    origins: OriginsTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<RoutingTable<'a>>,
    health: HealthTable,
    protection: ProtectionTable<'a>,
}

/// The host in the words of `spectrum.toml`.
#[derive(Serialize)]
pub struct HostDocument<'a> {
    interfaces: &'a [String],
    xdp_mode: &'static str,
    apps_dir: &'a Path,
    pin_dir: &'a Path,
    control_socket: &'a Path,
    #[serde(skip_serializing_if = "<[SocketAddr]>::is_empty")]
    dns_servers: &'a [SocketAddr],
    workers: usize,
    #[serde(serialize_with = "duration")]
    drain: Duration,
    state_dir: &'a Path,
    events: EventsTable,
    protection: HostProtectionTable<'a>,
    feeds: Vec<FeedTable<'a>>,
    geo: GeoTable<'a>,
}

#[derive(Serialize)]
struct GeoTable<'a> {
    #[serde(skip_serializing_if = "<[PathBuf]>::is_empty")]
    databases: &'a [PathBuf],
    #[serde(serialize_with = "duration")]
    refresh: Duration,
}

#[derive(Serialize)]
struct FeedTable<'a> {
    name: &'a str,
    source: String,
    action: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    apps: &'a [String],
    #[serde(serialize_with = "duration")]
    refresh: Duration,
}

#[derive(Serialize)]
struct Dns<'a> {
    name: &'a str,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EdgeIpsTable<'a> {
    Dynamic { connectivity: &'static str },
    Static { ips: &'a [std::net::IpAddr] },
}

#[derive(Serialize)]
struct TimeoutsTable {
    #[serde(
        serialize_with = "optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    connect: Option<Duration>,
    #[serde(
        serialize_with = "optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    handshake: Option<Duration>,
    #[serde(serialize_with = "duration")]
    idle: Duration,
    #[serde(
        serialize_with = "optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    max_duration: Option<Duration>,
}

#[derive(Serialize)]
struct ProtectionTable<'a> {
    block: &'a [IpNet],
    blocklist: &'static str,
    allow: &'a [IpNet],
    allowlist: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    countries: Option<AdmissionTable<'a, Country>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asns: Option<AdmissionTable<'a, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reflectors: Option<&'static str>,
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    reflector_ports: &'a [u16],
    fragments: &'static str,
    packet_rate: RateTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    syn_rate: Option<RateTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syn_challenge: Option<ChallengeTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out_of_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out_of_state_above: Option<u32>,
    mitigation: MitigationTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<CeilingTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_tcp_session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_session: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams: Option<DatagramsTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amplification: Option<AmplificationTable>,
    rules: Vec<RuleTable<'a>>,
}

#[derive(Serialize)]
struct AdmissionTable<'a, T> {
    mode: &'static str,
    #[serde(skip_serializing_if = "<[T]>::is_empty")]
    allow: &'a [T],
    #[serde(skip_serializing_if = "<[T]>::is_empty")]
    block: &'a [T],
}

impl<'a, T> AdmissionTable<'a, T> {
    /// `None` if there is nothing to say.
    fn new(admission: &'a Admission<T>) -> Option<Self> {
        let Admission { mode, allow, block } = admission;
        let is_empty = allow.is_empty() && block.is_empty();
        (!is_empty).then(|| Self {
            mode: mode.word(),
            allow,
            block,
        })
    }
}

#[derive(Serialize)]
struct ChallengeTable {
    when: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    above: Option<u32>,
}

#[derive(Serialize)]
struct MitigationTable {
    sensitivity: &'static str,
    mode: &'static str,
}

/// A rule in the words of a document.
#[derive(Serialize)]
struct RuleTable<'a> {
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<PayloadTable>,
    #[serde(skip_serializing_if = "<[Country]>::is_empty")]
    countries: &'a [Country],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    asns: &'a [u32],
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    mode: &'static str,
}

/// A number, or the first and the last of a range.
#[derive(Serialize)]
#[serde(untagged)]
enum Span {
    One(u16),
    Range(String),
}

#[derive(Serialize)]
struct PayloadTable {
    offset: u16,
    hex: String,
}

#[derive(Serialize)]
struct RateTable {
    mode: &'static str,
    per_second: u32,
    burst: u32,
}

#[derive(Serialize)]
struct EventsTable {
    output: String,
    drop_events_per_second: u32,
}

#[derive(Serialize)]
struct HostProtectionTable<'a> {
    block: &'a [IpNet],
    allow: &'a [IpNet],
    malformed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_ports: Option<&'static str>,
    syn_answers: &'static str,
    rules: Vec<RuleTable<'a>>,
}

impl<'a> From<&'a App> for AppDocument<'a> {
    fn from(app: &'a App) -> Self {
        let is_udp = app.transport == Transport::Udp;
        let is_static = matches!(app.edge_ips, EdgeIps::Static(_));
        let has_choice_of_datagrams = is_udp && app.proxy_protocol == ProxyProtocol::V2;
        Self {
            id: app.id.to_string(),
            dns: Dns {
                name: &app.name,
                r#type: if is_static { "ADDRESS" } else { "CNAME" },
            },
            protocol: app.protocol(),
            origin_direct: {
                let members = app.origins.members.iter();
                members
                    .map(|member| app.origin_url(&member.origin))
                    .collect()
            },
            origin_dns: app.origins.lookup.as_ref().map(LookupTable::new),
            origin_port: app.lookup_ports().map(|ports| Span::from(&ports)),
            edge_ips: match &app.edge_ips {
                EdgeIps::Dynamic(connectivity) => EdgeIpsTable::Dynamic {
                    connectivity: connectivity.word(),
                },
                EdgeIps::Static(ips) => EdgeIpsTable::Static { ips },
            },
            argo_smart_routing: app.origins.balance == Balance::LowestLatency,
            ip_firewall: app.ip_firewall,
            proxy_protocol: app.proxy_protocol.word(),
            proxy_protocol_on: has_choice_of_datagrams.then(|| app.proxy_protocol_on.word()),
            data_path: is_udp.then(|| app.data_path.word()),
            tls: app.tls_mode().word(),
            traffic_type: "direct",
            client_tls: app.tls.as_ref().map(|tls| (&tls.client).into()),
            origin_tls: app
                .tls
                .as_ref()
                .and_then(|tls| Some(tls.origin.as_ref()?.into())),
            limits: app.limits.into(),
            timeouts: TimeoutsTable {
                connect: (!is_udp).then_some(app.timeouts.connect),
                handshake: app.reads_first().then_some(app.timeouts.handshake),
                idle: app.timeouts.idle,
                max_duration: app.timeouts.max_duration,
            },
            origins: OriginsTable::new(app, &app.origins),
            routing: app
                .routing
                .as_ref()
                .map(|routing| RoutingTable::new(app, routing)),
            health: HealthTable::new(app.health.as_ref()),
            protection: ProtectionTable::new(&app.protection, app.transport),
        }
    }
}

impl<'a> ProtectionTable<'a> {
    fn new(protection: &'a Protection, transport: Transport) -> Self {
        let is_udp = transport == Transport::Udp;
        let session = protection.tcp_session.as_ref();
        Self {
            block: &protection.block,
            blocklist: protection.blocklist.word(),
            allow: &protection.allow,
            allowlist: protection.allowlist.word(),
            countries: AdmissionTable::new(&protection.countries),
            asns: AdmissionTable::new(&protection.asns),
            reflectors: is_udp.then(|| protection.reflectors.word()),
            reflector_ports: &protection.reflector_ports,
            fragments: protection.fragments.word(),
            packet_rate: protection.packet_rate.into(),
            syn_rate: (!is_udp).then(|| protection.syn_rate.into()),
            syn_challenge: (!is_udp).then(|| protection.syn_challenge.into()),
            out_of_state: (!is_udp).then(|| protection.out_of_state.word()),
            out_of_state_above: (protection.out_of_state != Mode::Off)
                .then_some(protection.out_of_state_above),
            mitigation: MitigationTable {
                sensitivity: protection.mitigation.sensitivity.word(),
                mode: protection.mitigation.mode.word(),
            },
            ceiling: CeilingTable::new(&protection.ceiling),
            require_tcp_session: session.map(|session| session.app.as_str()),
            tcp_session: session.map(|session| session.mode.word()),
            datagrams: is_udp.then(|| protection.datagrams.into()),
            amplification: is_udp.then(|| protection.amplification.into()),
            rules: protection.rules.iter().map(RuleTable::from).collect(),
        }
    }
}

impl<'a> From<&'a Rule> for RuleTable<'a> {
    fn from(rule: &'a Rule) -> Self {
        let conditions = &rule.conditions;
        let (per_second, burst) = match rule.action {
            Action::RateLimit { per_second, burst } => (Some(per_second), Some(burst)),
            Action::Drop | Action::Pass => (None, None),
        };
        Self {
            id: rule.id,
            name: rule.name.as_deref(),
            transport: conditions.transport.map(Transport::word),
            family: conditions.family.map(Family::word),
            length: conditions.length.as_ref().map(Span::from),
            ttl: conditions.ttl.as_ref().map(Span::from),
            source_port: conditions.source_port.as_ref().map(Span::from),
            port: conditions.port.as_ref().map(Span::from),
            flags: conditions.flags.map(|flags| Flags::words(flags).collect()),
            payload: conditions.payload.as_ref().map(PayloadTable::from),
            countries: &conditions.countries,
            asns: &conditions.asns,
            action: rule.action.kind().word(),
            per_second,
            burst,
            mode: rule.mode.word(),
        }
    }
}

impl<T: Copy + Into<u16>> From<&RangeInclusive<T>> for Span {
    fn from(range: &RangeInclusive<T>) -> Self {
        let [first, last] = [*range.start(), *range.end()].map(Into::into);
        if first == last {
            Self::One(first)
        } else {
            Self::Range(format!("{first}-{last}"))
        }
    }
}

impl From<&Payload> for PayloadTable {
    fn from(payload: &Payload) -> Self {
        Self {
            offset: payload.offset,
            hex: hex(&payload.bytes),
        }
    }
}

impl<'a> From<&'a Host> for HostDocument<'a> {
    fn from(host: &'a Host) -> Self {
        Self {
            interfaces: &host.interfaces,
            xdp_mode: host.xdp_mode.word(),
            apps_dir: &host.apps_dir,
            pin_dir: &host.pin_dir,
            control_socket: &host.control_socket,
            dns_servers: &host.dns_servers,
            workers: host.workers,
            drain: host.drain,
            state_dir: &host.state_dir,
            events: EventsTable {
                output: match &host.events {
                    EventOutput::Off => "off".to_owned(),
                    EventOutput::Stdout => "stdout".to_owned(),
                    EventOutput::File(path) => path.display().to_string(),
                },
                drop_events_per_second: host.drop_events_per_second,
            },
            protection: HostProtectionTable {
                block: &host.block,
                allow: &host.allow,
                malformed: host.malformed.word(),
                closed_ports: host.closed_ports.map(Mode::word),
                syn_answers: host.syn_answers.word(),
                rules: host.rules.iter().map(RuleTable::from).collect(),
            },
            feeds: host.feeds.iter().map(FeedTable::from).collect(),
            geo: GeoTable {
                databases: &host.geo.databases,
                refresh: host.geo.refresh,
            },
        }
    }
}

impl<'a> From<&'a Feed> for FeedTable<'a> {
    fn from(feed: &'a Feed) -> Self {
        Self {
            name: &feed.name,
            source: feed.source.to_string(),
            action: feed.action.word(),
            apps: &feed.apps,
            refresh: feed.refresh,
        }
    }
}

impl From<Rate> for RateTable {
    fn from(rate: Rate) -> Self {
        Self {
            mode: rate.mode.word(),
            per_second: rate.per_second,
            burst: rate.burst,
        }
    }
}

impl From<SynChallenge> for ChallengeTable {
    fn from(challenge: SynChallenge) -> Self {
        Self {
            when: challenge.when.word(),
            above: (challenge.when == When::Auto).then_some(challenge.above),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

fn optional_duration<S: Serializer>(
    optional: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match optional {
        Some(value) => duration(value, serializer),
        None => serializer.serialize_none(),
    }
}
