//! Random frames and policies, biased so that every rule is reached.

use std::{net::IpAddr, sync::Arc};

use etherparse::PacketBuilder;
use spectrum_user::{
    config::{
        App, Config, Connectivity, Datagrams, EdgeIps, Mode, TcpSession, Transport, When,
        rule::{Action, Conditions, Family, Flags, Payload, Rule},
    },
    geo::Country,
};

use crate::{
    places::{admit, country, refuse},
    policy::{app, host, nets, rate, rule},
};

/// SplitMix64: enough for tests, and the same for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

pub(crate) const ADDRESSES: [&str; 3] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
const STATIC: [&str; 2] = ["192.0.2.53", "2001:db8::53"];
const DESTINATIONS_V4: [&str; 5] = [
    "192.0.2.1",
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.53",
    "192.0.2.9",
];
const DESTINATIONS_V6: [&str; 4] = ["2001:db8::1", "2001:db8::1", "2001:db8::53", "2001:db8::9"];
const SOURCES_V4: [&str; 12] = [
    "100.64.0.1",
    "100.64.0.2",
    "198.18.0.7",
    "198.18.1.9",
    "198.19.4.4",
    "198.19.3.3",
    "203.0.113.5",
    "203.0.113.200",
    "127.0.0.1",
    "224.0.0.5",
    "0.0.0.9",
    "192.0.2.1",
];
const SOURCES_V6: [&str; 13] = [
    "2001:db8:c::1",
    // One /64: one source to the limits.
    "2001:db8:d::1",
    "2001:db8:d::2",
    "2001:db8:bad::7",
    "2001:db8:bad:7::9",
    "2001:db9::5",
    "2001:db9:1::5",
    "2001:db8:a11::1",
    "2001:db8:a11::2",
    // IPv4 dressed up as IPv6: no stack sends it.
    "::ffff:203.0.113.5",
    "::1",
    "ff02::1",
    "2001:db8::1",
];
/// Where sources are: what a database says that knows these prefixes.
pub(crate) const PLACES: [(&str, &str, u32); 8] = [
    ("100.64.0.2/32", "DE", 64500),
    ("198.18.1.0/24", "FR", 64501),
    ("198.19.3.0/24", "KP", 64502),
    ("203.0.113.0/25", "AT", 64500),
    ("203.0.113.128/25", "KP", 0),
    ("2001:db8:d::/64", "KP", 64502),
    ("2001:db8:a11::/48", "DE", 64501),
    ("2001:db9:1::/48", "XX", 64500),
];
/// Where the host itself listens, on all addresses and over both transports.
pub(crate) const SERVICE: u16 = 2222;
/// The only port of an app on which somebody listens.
pub(crate) const LISTENED: u16 = 80;
const PORTS: [u16; 16] = [
    22, 22, 80, 80, 7000, 7500, 7999, 8000, 53, 9, 51_820, 51_820, 51_820, 51_820, 1, SERVICE,
];
/// Sources that hold a TCP connection with the app "web".
pub(crate) const CONNECTED: [&str; 3] = ["100.64.0.1", "203.0.113.5", "2001:db8:d::1"];
const SOURCE_PORTS: [u16; 6] = [40_000, 53, 123, 1900, 54, 0];
const FLAGS: [u8; 12] = [2, 2, 2, 16, 24, 17, 4, 18, 0, 3, 6, 1];

const PAYLOADS: [&[u8]; 5] = [
    b"payload",
    b"query",
    b"queries of some length",
    b"",
    &[b'x'; 300],
];
const HOPS: [u8; 6] = [64, 64, 63, 128, 255, 1];

/// A policy with every rule in a random mode.
pub(crate) fn random_policy(random: &mut Random) -> Config {
    let modes = [Mode::Off, Mode::Monitor, Mode::Enforce];
    let mut config = policy(Mode::Enforce);
    config.host.malformed = random.pick(&modes);
    config.host.closed_ports = Some(random.pick(&modes));
    for app in &mut config.apps {
        let app = Arc::make_mut(app);
        app.ip_firewall = !random.one_in(5);
        let rules = &mut app.protection;
        rules.blocklist = random.pick(&modes);
        rules.allowlist = random.pick(&modes);
        rules.countries.mode = random.pick(&modes);
        rules.asns.mode = random.pick(&modes);
        rules.reflectors = random.pick(&modes);
        rules.fragments = random.pick(&modes);
        rules.datagrams.mode = random.pick(&modes);
        if let Some(session) = &mut rules.tcp_session {
            session.mode = random.pick(&modes);
        }
        rules.out_of_state = random.pick(&modes);
        // A million of them does not come.
        rules.out_of_state_above = random.pick(&[0, 1_000_000]);
        rules.syn_challenge.when = random.pick(&[When::Never, When::Always]);
        random_rules(random, &mut rules.rules);
    }
    random_rules(random, &mut config.host.rules);
    config
}

/// The same rules in other modes, in another order, and with other actions.
fn random_rules(random: &mut Random, rules: &mut [Rule]) {
    let actions = [Action::Drop, Action::Drop, Action::Pass, NEVER_REACHED];
    for rule in &mut *rules {
        rule.id += 10 * random.below(10) as u32;
        rule.action = random.pick(&actions);
        rule.mode = match rule.action {
            Action::Pass => random.pick(&[Mode::Off, Mode::Enforce]),
            Action::Drop | Action::RateLimit { .. } => {
                random.pick(&[Mode::Off, Mode::Monitor, Mode::Enforce])
            }
        };
    }
    rules.sort_by_key(|rule| rule.id);
}

const NEVER_REACHED: Action = Action::RateLimit {
    per_second: 10_000_000,
    burst: 10_000_000,
};

/// Rules by each field, alone and together: on the host, a TCP app and a UDP app. Their ids end in
/// a digit of their own, so that no change of the others makes two the same.
fn custom_rules() -> [Vec<Rule>; 3] {
    let any = Conditions::default;
    let payload = |offset, bytes: &[u8]| {
        Some(Payload {
            offset,
            bytes: bytes.to_vec(),
        })
    };
    let drop = |id, conditions| rule(id, Action::Drop, conditions);
    let host = vec![
        drop(
            11,
            Conditions {
                ttl: Some(1..=1),
                ..any()
            },
        ),
        drop(
            12,
            Conditions {
                transport: Some(Transport::Udp),
                length: Some(100..=2000),
                ..any()
            },
        ),
        drop(
            13,
            Conditions {
                payload: payload(2, b"er"),
                ..any()
            },
        ),
        drop(
            20,
            Conditions {
                ttl: Some(128..=255),
                countries: vec![country("AT"), country("DE")],
                ..any()
            },
        ),
    ];
    let flags = Flags {
        set: 0x08,
        clear: 0x02,
    };
    let tcp = vec![
        drop(
            14,
            Conditions {
                flags: Some(flags),
                ..any()
            },
        ),
        drop(
            15,
            Conditions {
                family: Some(Family::Ipv6),
                ttl: Some(60..=63),
                asns: vec![0, 64501],
                ..any()
            },
        ),
    ];
    let udp = vec![
        drop(
            16,
            Conditions {
                source_port: Some(0..=0),
                port: Some(7000..=7400),
                ..any()
            },
        ),
        rule(
            17,
            Action::Pass,
            Conditions {
                port: Some(7500..=7500),
                ..any()
            },
        ),
        drop(
            18,
            Conditions {
                length: Some(33..=33),
                ..any()
            },
        ),
        drop(
            19,
            Conditions {
                ttl: Some(128..=255),
                payload: payload(0, b"query"),
                ..any()
            },
        ),
    ];
    [host, tcp, udp]
}

/// A policy with every rule in one mode.
pub(crate) fn policy(mode: Mode) -> Config {
    let mut web = app("web", Transport::Tcp, 80, 80);
    web.protection.block = nets(&["198.19.3.0/28", "2001:db8:c::/64"]);
    let mut ssh = app("ssh", Transport::Tcp, 22, 22);
    ssh.protection.allow = nets(&["203.0.113.0/24", "2001:db8:a11::/48", "100.64.0.2/32"]);
    ssh.protection.block = nets(&["203.0.113.192/26"]);
    // Some of these are on its allowlist, which exempts them.
    ssh.protection.countries = refuse(vec![country("AT")]);
    web.protection.countries = refuse(vec![country("KP")]);
    let mut game = app("game", Transport::Udp, 7000, 7999);
    let mut vpn = app("vpn", Transport::Udp, 51_820, 51_820);
    vpn.edge_ips = EdgeIps::Dynamic(Connectivity::Ipv4);
    vpn.protection.asns = refuse(vec![64500]);
    vpn.protection.tcp_session = Some(TcpSession {
        mode,
        app: "web".to_owned(),
    });
    let mut dns = app("dns", Transport::Udp, 53, 53);
    let fixed = STATIC.iter().map(|ip| ip.parse().expect("an address"));
    dns.edge_ips = EdgeIps::Static(fixed.collect());
    dns.protection.reflector_ports = vec![1900];
    dns.protection.countries = admit(vec![country("DE"), country("FR"), Country::UNKNOWN]);
    dns.protection.asns = admit(vec![0, 64500]);
    let [mut host_rules, tcp_rules, udp_rules] = custom_rules();
    web.protection.rules = tcp_rules;
    game.protection.rules = udp_rules;
    let mut apps = vec![web, ssh, game, vpn, dns];
    apps.iter_mut().for_each(|app| set_modes(app, mode));
    set_rule_modes(&mut host_rules, mode);
    let mut host = host(mode);
    host.block = nets(&[
        "198.18.0.7/32",
        "198.18.1.0/24",
        "198.19.0.0/16",
        "2001:db8:bad::7/128",
        "2001:db8:bad:7::/64",
        "2001:db9::/32",
    ]);
    host.allow = nets(&["198.19.3.0/24", "2001:db9:1::/48"]);
    host.rules = host_rules;
    Config {
        host,
        apps: apps.into_iter().map(Arc::new).collect(),
    }
}

/// A policy with two apps that limit rates, one with a ceiling, and every rule enforced that comes
/// before.
pub(crate) fn rated_policy(mode: Mode) -> Config {
    let mut config = policy(Mode::Enforce);
    for app in &mut config.apps {
        let app = Arc::make_mut(app);
        // Rates come before, and what they admit is told by what passes.
        app.protection.out_of_state = Mode::Off;
        app.protection.syn_challenge.when = When::Never;
        match app.name.as_str() {
            "web" => app.protection.packet_rate = rate(mode, 20),
            "ssh" => app.protection.syn_rate = rate(mode, 5),
            "game" => {
                // One of them spares packets the ceiling.
                app.protection.rules.clear();
                app.protection.ceiling.mode = mode;
                app.protection.ceiling.packets_per_second = Some(20);
            }
            _ => {}
        }
    }
    config
}

fn set_modes(app: &mut App, mode: Mode) {
    let rules = &mut app.protection;
    rules.blocklist = mode;
    rules.allowlist = mode;
    rules.countries.mode = mode;
    rules.asns.mode = mode;
    rules.reflectors = mode;
    rules.fragments = mode;
    rules.datagrams = Datagrams {
        mode,
        min: 6,
        max: 200,
    };
    rules.out_of_state = mode;
    rules.syn_challenge.when = When::Always;
    set_rule_modes(&mut rules.rules, mode);
}

fn set_rule_modes(rules: &mut [Rule], mode: Mode) {
    for rule in rules.iter_mut().filter(|rule| rule.action != Action::Pass) {
        rule.mode = mode;
    }
}

/// A frame of at least 14 bytes, which is what the kernel runs a program on.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = packet(random);
    if random.one_in(4) {
        fragment(random, &mut frame);
    }
    if random.one_in(4) {
        stretch(random, &mut frame);
    }
    for _ in 0..random.pick(&[0, 0, 0, 1, 2]) {
        let tag = random.pick(&[0x8100_u16, 0x88a8]).to_be_bytes();
        frame.splice(12..12, [tag[0], tag[1], 0, 100]);
    }
    if random.one_in(4) {
        let at = 12 + random.below(frame.len() - 12);
        frame[at] = random.byte();
    }
    if random.one_in(8) {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    if random.one_in(8) {
        let length = frame.len() + random.below(10);
        frame.resize(length, 0);
    }
    frame
}

fn packet(random: &mut Random) -> Vec<u8> {
    let v6 = random.one_in(3);
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (from, to) = if v6 {
        (
            parse(random.pick(&SOURCES_V6)),
            parse(random.pick(&DESTINATIONS_V6)),
        )
    } else {
        (
            parse(random.pick(&SOURCES_V4)),
            parse(random.pick(&DESTINATIONS_V4)),
        )
    };
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("one family"),
    };
    let (source, port) = (random.pick(&SOURCE_PORTS), random.pick(&PORTS));
    let payload = random.pick(&PAYLOADS);
    let mut frame = Vec::new();
    match random.below(16) {
        0 => ip
            .icmpv4_echo_request(1, 1)
            .write(&mut frame, payload)
            .expect("a frame"),
        1..8 => {
            ip.tcp(source, port, 1, 100)
                .write(&mut frame, payload)
                .expect("a frame");
            let transport = if v6 { 54 } else { 34 };
            frame[transport + 13] = random.pick(&FLAGS);
        }
        _ => ip
            .udp(source, port)
            .write(&mut frame, payload)
            .expect("a frame"),
    }
    frame[if v6 { 21 } else { 22 }] = random.pick(&HOPS);
    frame
}

/// Makes it a fragment: by the header's own field, or by one more header.
fn fragment(random: &mut Random, frame: &mut Vec<u8>) {
    let (offset, more) = (random.pick(&[0_u16, 0, 8, 1024]), random.below(2) as u16);
    if frame[12] == 0x08 {
        let field = (offset / 8) | (more << 13);
        frame[20..22].copy_from_slice(&field.to_be_bytes());
    } else {
        let [high, low] = (offset | more).to_be_bytes();
        extend_v6(frame, 44, [0, high, low]);
    }
}

/// IPv4 options, or IPv6 extension headers, now and then too many.
fn stretch(random: &mut Random, frame: &mut Vec<u8>) {
    if frame[12] == 0x08 {
        let words = 1 + random.below(10) as u8;
        frame[14] += words;
        let bytes = usize::from(words) * 4;
        let total = u16::from_be_bytes([frame[16], frame[17]]) + bytes as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame.splice(34..34, vec![1; bytes]);
        return;
    }
    for _ in 0..1 + random.below(8) {
        let header = random.pick(&[0, 43, 60, 51]);
        extend_v6(frame, header, [0, 0, 0]);
    }
}

fn extend_v6(frame: &mut Vec<u8>, header: u8, [length, high, low]: [u8; 3]) {
    let next = frame[20];
    frame[20] = header;
    let total = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&total.to_be_bytes());
    frame.splice(54..54, [next, length, high, low, 0, 0, 0, 0]);
}
