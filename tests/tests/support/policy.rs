//! Configurations made in code: what the tests of the program build their policies from.

use std::time::Duration;

use spectrum_user::config::{
    Admission, Amplification, App, AppId, Ceiling, Connectivity, DataPath, Datagrams, EdgeIps,
    EventOutput, Geo, HeaderOn, Host, Limits, Mitigation, Mode, Origin, PortRange, Protection,
    ProxyProtocol, Rate, SynAnswers, SynChallenge, Timeouts, Transport, When, XdpMode,
    rule::{Action, Conditions, Rule},
};

/// A host whose own rules are in `mode`, and whose lists are empty.
pub(crate) fn host(mode: Mode) -> Host {
    Host {
        interfaces: vec!["none".to_owned()],
        xdp_mode: XdpMode::Auto,
        apps_dir: "apps.d".into(),
        pin_dir: "unused".into(),
        control_socket: "unused".into(),
        workers: 1,
        drain: Duration::from_secs(1),
        events: EventOutput::Off,
        drop_events_per_second: 100,
        state_dir: "unused".into(),
        feeds: Vec::new(),
        geo: Geo::NONE,
        block: Vec::new(),
        allow: Vec::new(),
        malformed: mode,
        closed_ports: Some(mode),
        syn_answers: SynAnswers::Auto,
        dns_servers: Vec::new(),
        rules: Vec::new(),
    }
}

pub(crate) fn nets(prefixes: &[&str]) -> Vec<ipnet::IpNet> {
    prefixes
        .iter()
        .map(|prefix| prefix.parse().expect(prefix))
        .collect()
}

/// `burst` packets at once, and the next a second later: no test waits that long.
pub(crate) fn rate(mode: Mode, burst: u32) -> Rate {
    Rate {
        mode,
        per_second: 1,
        burst,
    }
}

/// A custom rule that is enforced.
pub(crate) fn rule(id: u32, action: Action, conditions: Conditions) -> Rule {
    Rule {
        id,
        name: None,
        conditions,
        action,
        mode: Mode::Enforce,
    }
}

/// An app on every address, with every rule enforced but those that remember: rates, and
/// TCP's handshake and state.
pub(crate) fn app(name: &str, transport: Transport, first: u16, last: u16) -> App {
    App {
        id: AppId::from_file_stem(name),
        name: name.to_owned(),
        document: format!("{name}.toml").into(),
        transport,
        ports: PortRange { first, last },
        edge_ips: EdgeIps::Dynamic(Connectivity::All),
        origins: [Origin {
            ip: "10.0.0.1".parse().expect("an address"),
            first_port: first,
        }]
        .into_iter()
        .collect(),
        health: None,
        proxy_protocol: ProxyProtocol::Off,
        proxy_protocol_on: HeaderOn::First,
        data_path: DataPath::Proxy,
        routing: None,
        tls: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            max_duration: None,
        },
        limits: Limits::NONE,
        ip_firewall: true,
        protection: Protection {
            block: Vec::new(),
            blocklist: Mode::Enforce,
            allow: Vec::new(),
            allowlist: Mode::Enforce,
            countries: Admission::ALL,
            asns: Admission::ALL,
            reflectors: Mode::Enforce,
            reflector_ports: vec![53, 123, 11_211],
            fragments: Mode::Enforce,
            packet_rate: rate(Mode::Off, 1),
            syn_rate: rate(Mode::Off, 1),
            syn_challenge: SynChallenge {
                when: When::Never,
                above: 1,
            },
            out_of_state: Mode::Off,
            out_of_state_above: 0,
            mitigation: Mitigation::OFF,
            rules: Vec::new(),
            ceiling: Ceiling {
                mode: Mode::Enforce,
                ..Ceiling::NONE
            },
            tcp_session: None,
            datagrams: Datagrams::ANY,
            amplification: Amplification::ANY,
        },
    }
}
