//! The rules, written a second time: slices for headers, std for addresses, ipnet and linear
//! searches for lists. It shares no code with the program, only the documents.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use spectrum_user::config::{
    Admission, App, Config, EdgeIps, Mode, Transport, When,
    rule::{Action, Conditions, Family, Rule},
};

use crate::generator::{CONNECTED, LISTENED, PLACES, SERVICE};
use crate::mitigations::FIRST_ID;

/// The end of a packet: the app (`None`: the host) and what was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    pub(crate) app: Option<String>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Passed,
    Monitored(&'static str),
    Dropped(&'static str),
    Challenged,
}

/// What the headers say.
struct Facts {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    later_fragment: bool,
    first_fragment: bool,
    ports: Option<(u16, u16)>,
    flags: u8,
    /// Of the IP packet.
    length: u16,
    hops: u8,
    payload: Vec<u8>,
    /// Of a datagram, by UDP's own header.
    datagram: u16,
    defect: Option<&'static str>,
}

enum Headers {
    NotIp,
    Unreadable,
    Packet(Facts),
}

/// Collects what the rules say until one drops.
struct Judge {
    app: Option<String>,
    monitored: Option<Verdict>,
    dropped: Option<Verdict>,
    /// A SYN that is answered, unless a rule drops it.
    challenged: bool,
}

impl Judge {
    fn rule(&mut self, mode: Mode, reason: &'static str) {
        if self.dropped.is_some() {
            return;
        }
        let verdict = |outcome| Verdict {
            app: self.app.clone(),
            outcome,
        };
        match mode {
            Mode::Off => {}
            Mode::Monitor if self.monitored.is_none() => {
                self.monitored = Some(verdict(Outcome::Monitored(reason)));
            }
            Mode::Monitor => {}
            Mode::Enforce => self.dropped = Some(verdict(Outcome::Dropped(reason))),
        }
    }

    fn end(self) -> Verdict {
        let end = |outcome| Verdict {
            app: self.app.clone(),
            outcome,
        };
        if self.dropped.is_none() && self.challenged {
            return end(Outcome::Challenged);
        }
        let passed = end(Outcome::Passed);
        self.dropped.or(self.monitored).unwrap_or(passed)
    }
}

/// Who a packet is charged to where rates are limited.
pub(crate) struct Sender {
    /// The source; for IPv6 its /64.
    pub(crate) network: IpAddr,
    /// It sends the first SYN of a connection.
    pub(crate) opens: bool,
}

pub(crate) fn sender(frame: &[u8]) -> Option<Sender> {
    let Headers::Packet(facts) = headers(frame) else {
        return None;
    };
    let bits = if facts.source.is_ipv4() { 32 } else { 64 };
    Some(Sender {
        network: IpNet::new(facts.source, bits).ok()?.network(),
        opens: facts.protocol == 6 && facts.flags & 0x12 == 0x02,
    })
}

/// Decides about a frame by all rules but the rates, for a host with `addresses` that itself
/// listens on the port [`SERVICE`], and at one app on [`LISTENED`]. Nobody is connected.
pub(crate) fn decide(config: &Config, addresses: &[IpAddr], frame: &[u8]) -> Verdict {
    let mut judge = Judge {
        app: None,
        monitored: None,
        dropped: None,
        challenged: false,
    };
    let malformed = config.host.malformed;
    match headers(frame) {
        Headers::NotIp => {}
        Headers::Unreadable => judge.rule(malformed, "malformed"),
        Headers::Packet(facts) if is_edge(config, addresses, facts.destination) => {
            if let Some(defect) = facts.defect {
                judge.rule(malformed, defect);
            }
            judge_ours(&mut judge, config, addresses, &facts);
        }
        Headers::Packet(_) => {}
    }
    judge.end()
}

fn judge_ours(judge: &mut Judge, config: &Config, addresses: &[IpAddr], facts: &Facts) {
    let transport = match facts.protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return,
    };
    let here =
        |app: &&App| app.transport == transport && reaches(app, addresses, facts.destination);
    let apps = || config.apps.iter().map(AsRef::as_ref).filter(here);
    if facts.later_fragment {
        // The most lenient app decides.
        let modes: Vec<Mode> = apps().map(|app| app.protection.fragments).collect();
        let mode = [Mode::Off, Mode::Monitor, Mode::Enforce]
            .into_iter()
            .find(|mode| modes.contains(mode));
        judge.rule(mode.unwrap_or(Mode::Off), "fragment");
        return;
    }
    let Some((source_port, port)) = facts.ports else {
        return;
    };
    let Some(app) = apps().find(|app| app.ports.first <= port && port <= app.ports.last) else {
        let opens = transport == Transport::Udp || facts.flags & 0x12 == 0x02;
        let listens = port == SERVICE || transport == Transport::Tcp && port == LISTENED;
        if !listens {
            let reason = if opens { "closed_port" } else { "out_of_state" };
            judge.rule(config.host.closed_ports.expect("set"), reason);
        }
        return;
    };
    judge.app = Some(app.name.clone());
    let goes_on = judge_app(judge, config, app, facts, source_port);
    if goes_on && transport == Transport::Tcp {
        judge_handshake(judge, app, facts, port);
    }
}

fn judge_handshake(judge: &mut Judge, app: &App, facts: &Facts, port: u16) {
    if facts.flags & 0x12 == 0x02 {
        let whole = !facts.first_fragment && facts.defect.is_none();
        let always = app.protection.syn_challenge.when == When::Always;
        judge.challenged = always && port == LISTENED && whole;
    } else if app.protection.out_of_state_above == 0 {
        judge.rule(app.protection.out_of_state, "out_of_state");
    }
}

/// Says whether rules that come later are asked, should none of these drop the packet.
fn judge_app(
    judge: &mut Judge,
    config: &Config,
    app: &App,
    facts: &Facts,
    source_port: u16,
) -> bool {
    let rules = &app.protection;
    if app.ip_firewall {
        let own = most_specific(facts.source, &rules.block, &rules.allow);
        let global = most_specific(facts.source, &config.host.block, &config.host.allow);
        if own == Some(Listed::Blocked) || global == Some(Listed::Blocked) {
            judge.rule(rules.blocklist, "blocked");
        }
        if !rules.allow.is_empty() && own != Some(Listed::Allowed) {
            judge.rule(rules.allowlist, "not_allowed");
        }
        if own != Some(Listed::Allowed) && global != Some(Listed::Allowed) {
            let (country, asn) = place_of(facts.source);
            if is_refused(&country, &rules.countries) {
                judge.rule(rules.countries.mode, "country");
            }
            if is_refused(&asn, &rules.asns) {
                judge.rule(rules.asns.mode, "asn");
            }
        }
    }
    if app.transport == Transport::Udp && rules.reflector_ports.contains(&source_port) {
        judge.rule(rules.reflectors, "reflector");
    }
    let sizes = rules.datagrams.min..=rules.datagrams.max;
    if app.transport == Transport::Udp && !sizes.contains(&facts.datagram) {
        judge.rule(rules.datagrams.mode, "datagram_size");
    }
    if facts.first_fragment {
        judge.rule(rules.fragments, "fragment");
    }
    let is_spared = judge_rules(judge, config, app, facts);
    if let Some(session) = &rules.tcp_session
        && !is_spared
        && !is_connected(facts.source)
    {
        judge.rule(session.mode, "no_tcp_session");
    }
    !is_spared
}

/// The country and the system of an address.
fn place_of(source: IpAddr) -> (String, u32) {
    let known = PLACES.iter().find(|(prefix, _, _)| {
        let net: IpNet = prefix.parse().expect("a prefix");
        net.contains(&source)
    });
    known.map_or(("XX".to_owned(), 0), |(_, code, asn)| {
        ((*code).to_owned(), *asn)
    })
}

fn is_refused<T: ToString>(here: &impl ToString, admission: &Admission<T>) -> bool {
    let names = |list: &[T]| list.iter().any(|one| one.to_string() == here.to_string());
    names(&admission.block) || !admission.allow.is_empty() && !names(&admission.allow)
}

/// To the one app with which others ask for a connection.
fn is_connected(source: IpAddr) -> bool {
    let nets = CONNECTED.map(|source| {
        let ip: IpAddr = source.parse().expect("an address");
        let bits = if ip.is_ipv4() { 32 } else { 64 };
        IpNet::new(ip, bits).expect("a length").trunc()
    });
    nets.iter().any(|net| net.contains(&source))
}

/// The custom rules of host and app and the mitigations by id, those of the host first, up to the one that decides; of
/// those that only monitor, the first speaks for all. Returns whether one spares the packet the
/// rules that come after.
fn judge_rules(judge: &mut Judge, config: &Config, app: &App, facts: &Facts) -> bool {
    let of_host = config.host.rules.iter().map(|rule| (rule.id, 0, rule));
    let of_app = app.protection.rules.iter().map(|rule| (rule.id, 1, rule));
    let mut rules: Vec<(u32, u32, &Rule)> = of_host.chain(of_app).collect();
    rules.sort_by_key(|&(id, owner, _)| (id, owner));
    let mut is_watched = false;
    for (_, _, rule) in rules {
        let is_silent = rule.mode == Mode::Off || rule.mode == Mode::Monitor && is_watched;
        if is_silent || !matches(&rule.conditions, facts) {
            continue;
        }
        is_watched |= rule.mode == Mode::Monitor;
        match rule.action {
            Action::Drop if rule.id >= FIRST_ID => judge.rule(rule.mode, "signature"),
            Action::Drop => judge.rule(rule.mode, "custom_rule"),
            // The rates of the model's rules are never reached.
            Action::RateLimit { .. } | Action::Pass => {}
        }
        if rule.mode == Mode::Enforce {
            return rule.action == Action::Pass;
        }
    }
    false
}

fn matches(conditions: &Conditions, facts: &Facts) -> bool {
    let (source_port, port) = facts.ports.expect("packets to apps have ports");
    let holds = |condition: Option<bool>| condition.unwrap_or(true);
    let transport = conditions.transport.map(|transport| match transport {
        Transport::Tcp => facts.protocol == 6,
        Transport::Udp => facts.protocol == 17,
    });
    let family = conditions.family.map(|family| match family {
        Family::Ipv4 => facts.source.is_ipv4(),
        Family::Ipv6 => facts.source.is_ipv6(),
    });
    let flags = conditions.flags.map(|flags| {
        let is_set = facts.flags & flags.set == flags.set;
        facts.protocol == 6 && is_set && facts.flags & flags.clear == 0
    });
    let payload = conditions.payload.as_ref().map(|wanted| {
        let rest = facts.payload.get(usize::from(wanted.offset)..);
        rest.is_some_and(|rest| rest.starts_with(&wanted.bytes))
    });
    let ranges = [
        (&conditions.length, facts.length),
        (&conditions.source_port, source_port),
        (&conditions.port, port),
    ];
    let in_ranges = ranges
        .into_iter()
        .all(|(range, value)| holds(range.as_ref().map(|range| range.contains(&value))));
    let ttl = conditions.ttl.as_ref();
    let (country, asn) = place_of(facts.source);
    let countries = &conditions.countries;
    let is_there = countries.is_empty() || countries.iter().any(|c| c.to_string() == country);
    let is_in_system = conditions.asns.is_empty() || conditions.asns.contains(&asn);
    in_ranges
        && is_there
        && is_in_system
        && holds(ttl.map(|ttl| ttl.contains(&facts.hops)))
        && holds(transport)
        && holds(family)
        && holds(flags)
        && holds(payload)
}

fn is_edge(config: &Config, addresses: &[IpAddr], destination: IpAddr) -> bool {
    let is_static = |app: &App| match &app.edge_ips {
        EdgeIps::Static(ips) => ips.contains(&destination),
        EdgeIps::Dynamic(_) => false,
    };
    addresses.contains(&destination) || config.apps.iter().any(|app| is_static(app))
}

fn reaches(app: &App, addresses: &[IpAddr], destination: IpAddr) -> bool {
    use spectrum_user::config::Connectivity;
    match &app.edge_ips {
        EdgeIps::Static(ips) => ips.contains(&destination),
        EdgeIps::Dynamic(connectivity) => {
            let family = match connectivity {
                Connectivity::All => true,
                Connectivity::Ipv4 => destination.is_ipv4(),
                Connectivity::Ipv6 => destination.is_ipv6(),
            };
            family && addresses.contains(&destination)
        }
    }
}

#[derive(PartialEq, Eq)]
enum Listed {
    Blocked,
    Allowed,
}

fn most_specific(source: IpAddr, block: &[IpNet], allow: &[IpNet]) -> Option<Listed> {
    let best = |nets: &[IpNet]| {
        let covering = nets.iter().filter(|net| net.contains(&source));
        covering.map(IpNet::prefix_len).max()
    };
    match (best(block), best(allow)) {
        (None, None) => None,
        (blocked, allowed) if blocked > allowed => Some(Listed::Blocked),
        _ => Some(Listed::Allowed),
    }
}

fn headers(frame: &[u8]) -> Headers {
    let Some(mut kind) = u16_at(frame, 12) else {
        return Headers::NotIp;
    };
    let mut at = 14;
    for _ in 0..2 {
        if kind == 0x8100 || kind == 0x88a8 {
            let Some(inner) = u16_at(frame, at + 2) else {
                return Headers::NotIp;
            };
            kind = inner;
            at += 4;
        }
    }
    let packet = frame.get(at..).unwrap_or_default();
    let parsed = match kind {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => return Headers::NotIp,
    };
    parsed.map_or(Headers::Unreadable, Headers::Packet)
}

fn ipv4(packet: &[u8]) -> Option<Facts> {
    let header: [u8; 20] = packet.get(..20)?.try_into().ok()?;
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let field = u16::from_be_bytes([header[6], header[7]]);
    let [first, ..] = source.octets();
    let mut facts = Facts {
        source: source.into(),
        destination: destination.into(),
        protocol: header[9],
        later_fragment: field & 0x1fff != 0,
        first_fragment: field & 0x3fff == 0x2000,
        ports: None,
        flags: 0,
        length: total as u16,
        hops: header[8],
        payload: Vec::new(),
        datagram: 0,
        defect: None,
    };
    if header[0] >> 4 != 4 {
        return None;
    }
    if header_length < 20 || total < header_length || total > packet.len() {
        facts.defect = Some("malformed");
        return Some(facts);
    }
    transport(&mut facts, &packet[header_length..total]);
    let martian = first == 0 || first == 127 || first >= 224 || source == destination;
    facts.defect = facts.defect.or(martian.then_some("martian"));
    Some(facts)
}

fn ipv6(packet: &[u8]) -> Option<Facts> {
    let header = packet.get(..40)?;
    let address = |at: usize| {
        let bytes: [u8; 16] = header[at..at + 16].try_into().expect("sixteen bytes");
        Ipv6Addr::from(bytes)
    };
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, destination) = (address(8), address(24));
    let mut facts = Facts {
        // An entry for an IPv4 address holds however the address is written.
        source: source.to_canonical(),
        destination: destination.to_canonical(),
        protocol: header[6],
        later_fragment: false,
        first_fragment: false,
        ports: None,
        flags: 0,
        length: u16::from_be_bytes([header[4], header[5]]).saturating_add(40),
        hops: header[7],
        payload: Vec::new(),
        datagram: 0,
        defect: None,
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = packet.get(40..40 + length);
    match payload.and_then(|payload| extensions(&mut facts, payload)) {
        Some(rest) => transport(&mut facts, rest),
        None => facts.defect = Some("malformed"),
    }
    let martian = source.is_multicast()
        || source.is_loopback()
        || source.is_unspecified()
        || source.to_ipv4_mapped().is_some()
        || source == destination;
    facts.defect = facts.defect.or(martian.then_some("martian"));
    Some(facts)
}

/// What comes after the extension headers; `None` if they are broken or more than six.
fn extensions<'a>(facts: &mut Facts, mut rest: &'a [u8]) -> Option<&'a [u8]> {
    let mut seen = 0;
    while [0, 43, 44, 51, 60].contains(&facts.protocol) && !facts.later_fragment {
        seen += 1;
        if seen > 6 {
            return None;
        }
        let length = match facts.protocol {
            44 => 8,
            51 => (usize::from(*rest.get(1)?) + 2) * 4,
            _ => (usize::from(*rest.get(1)?) + 1) * 8,
        };
        let (header, after) = rest.split_at_checked(length)?;
        if facts.protocol == 44 {
            let field = u16::from_be_bytes([header[2], header[3]]);
            facts.later_fragment = field & 0xfff8 != 0;
            facts.first_fragment = field & 0xfff9 == 1;
        }
        facts.protocol = header[0];
        rest = after;
    }
    Some(rest)
}

fn transport(facts: &mut Facts, segment: &[u8]) {
    if facts.later_fragment || ![6, 17].contains(&facts.protocol) {
        return;
    }
    let is_tcp = facts.protocol == 6;
    let least = if is_tcp { 20 } else { 8 };
    let Some(header) = segment.get(..least) else {
        facts.defect = Some("malformed");
        return;
    };
    facts.ports = u16_at(header, 0).zip(u16_at(header, 2));
    if is_tcp {
        facts.flags = header[13];
        let length = usize::from(header[12] >> 4) * 4;
        if length < 20 || length > segment.len() {
            facts.defect = Some("malformed");
            return;
        }
        facts.payload = segment[length..].to_vec();
        if impossible(facts.flags) {
            facts.defect = Some("tcp_flags");
        }
    } else {
        facts.payload = segment[8..].to_vec();
        let length = u16::from_be_bytes([header[4], header[5]]);
        facts.datagram = length.saturating_sub(8);
        let length = usize::from(length);
        if length < 8 || length > segment.len() && !facts.first_fragment {
            facts.defect = Some("malformed");
        }
    }
}

fn impossible(flags: u8) -> bool {
    let (fin, syn, rst, ack) = (
        flags & 1 != 0,
        flags & 2 != 0,
        flags & 4 != 0,
        flags & 16 != 0,
    );
    !(syn || rst || ack) || (syn && (fin || rst)) || (fin && !ack)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}
