//! The plan answers every question about ports and addresses as the documents do.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::config::{
    Admission, AppId, Connectivity, DataPath, EdgeIps, EventOutput, Geo, HeaderOn, Host, Limits,
    Mitigation, PortRange, Protection, ProxyProtocol, Rate, SynAnswers, Timeouts, Transport, When,
    XdpMode,
};

fn config(apps: Vec<config::App>) -> Config {
    Config {
        host: Host {
            interfaces: vec!["eth0".to_owned()],
            xdp_mode: XdpMode::Auto,
            apps_dir: "apps.d".into(),
            pin_dir: "/sys/fs/bpf/spectrum".into(),
            control_socket: "control.sock".into(),
            workers: 1,
            drain: Duration::from_secs(1),
            events: EventOutput::Off,
            drop_events_per_second: 100,
            state_dir: "state".into(),
            feeds: Vec::new(),
            geo: Geo::NONE,
            block: Vec::new(),
            allow: Vec::new(),
            malformed: Mode::Enforce,
            closed_ports: None,
            syn_answers: SynAnswers::Auto,
            dns_servers: Vec::new(),
            rules: Vec::new(),
        },
        apps: apps.into_iter().map(Arc::new).collect(),
    }
}

fn app(id: u8, transport: Transport, first: u16, last: u16) -> config::App {
    let rate = Rate {
        mode: Mode::Enforce,
        per_second: 100,
        burst: 200,
    };
    config::App {
        id: AppId([id; 16]),
        name: format!("app-{id}"),
        document: format!("app-{id}.toml").into(),
        transport,
        ports: PortRange { first, last },
        edge_ips: EdgeIps::Dynamic(Connectivity::All),
        origins: [].into_iter().collect(),
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
            reflector_ports: vec![53, 123],
            fragments: Mode::Enforce,
            packet_rate: rate,
            syn_rate: rate,
            syn_challenge: config::SynChallenge {
                when: When::Auto,
                above: 100,
            },
            out_of_state: Mode::Enforce,
            out_of_state_above: 0,
            mitigation: Mitigation::OFF,
            rules: Vec::new(),
            ceiling: config::Ceiling::NONE,
            tcp_session: None,
            datagrams: config::Datagrams::ANY,
            amplification: config::Amplification::ANY,
        },
    }
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect(text).into()
}

/// The slot that the program would find, as `Tables::app_slot` walks the pages.
fn slot_at(plan: &Plan, directory: u32, port: u16) -> u32 {
    let [high, low] = port.to_be_bytes().map(usize::from);
    let entry = |page: u32, index: usize| u32::from(plan.pages[page as usize].entries[index]);
    if directory == 0 {
        return 0;
    }
    match entry(directory, high) {
        0 => 0,
        page => entry(page, low),
    }
}

proptest! {
    /// A port that leads nowhere is an outage; one that leads to the wrong app is worse.
    #[test]
    fn every_port_leads_to_its_app(
        ranges in prop::collection::btree_map(0_u16..60, 0_u16..1000, 1..20),
        probes in prop::collection::vec(any::<u16>(), 50),
    ) {
        // Disjoint ranges within blocks of 1,000 ports.
        let ranges: Vec<(u16, u16)> = ranges
            .into_iter()
            .map(|(block, length)| (block * 1000 + 1, block * 1000 + 1 + length))
            .collect();
        let apps = ranges.iter().zip(1..).map(|(&(first, last), id)| app(id, Transport::Tcp, first, last));
        let plan = Plan::new(&config(apps.collect()), &[address("192.0.2.1")], &Slots::new(), (&[], &Arc::default()))
            .expect("it fits");
        let edge = plan.edges[&address("192.0.2.1")];
        prop_assert_eq!(edge.udp_directory, 0);
        let bounds = ranges.iter().flat_map(|&(first, last)| [first - 1, first, last, last + 1]);
        for port in bounds.chain(probes) {
            let expected = ranges.iter().position(|&(first, last)| (first..=last).contains(&port));
            let found = slot_at(&plan, edge.tcp_directory, port);
            let id = plan.apps.get(&found).map(|app| usize::from(app.id[0]) - 1);
            prop_assert_eq!(id, expected, "port {}", port);
        }
    }
}

#[test]
fn apps_keep_their_slots_and_new_ones_get_free_ones() {
    let config = config(vec![
        app(1, Transport::Tcp, 22, 22),
        app(2, Transport::Tcp, 80, 80),
    ]);
    let slots = Slots::from([([2; 16], 1), ([9; 16], 2)]);
    let plan = Plan::new(&config, &[], &slots, (&[], &Arc::default())).expect("it fits");
    assert_eq!(plan.apps[&1].id, [2; 16], "kept");
    assert_eq!(
        plan.apps[&3].id, [1; 16],
        "slot 2 still has the counters of an app that goes"
    );
}

#[test]
fn connectivity_and_static_addresses_choose_the_edges() {
    let mut v4_only = app(1, Transport::Tcp, 22, 22);
    v4_only.edge_ips = EdgeIps::Dynamic(Connectivity::Ipv4);
    let mut fixed = app(2, Transport::Udp, 53, 53);
    fixed.edge_ips = EdgeIps::Static(vec!["203.0.113.9".parse().expect("an address")]);
    let interface = [address("192.0.2.1"), address("2001:db8::1")];
    let plan = Plan::new(
        &config(vec![v4_only, fixed]),
        &interface,
        &Slots::new(),
        (&[], &Arc::default()),
    )
    .expect("it fits");

    assert_ne!(plan.edges[&interface[0]].tcp_directory, 0);
    assert_eq!(
        plan.edges[&interface[1]],
        Edge::default(),
        "an edge without apps is silent"
    );
    let fixed = plan.edges[&address("203.0.113.9")];
    assert_ne!(fixed.udp_directory, 0);
    assert_eq!(fixed.tcp_directory, 0);
    assert_eq!(plan.edges.len(), 3);
}

/// A later fragment has no port: one app that needs fragments needs them all.
#[test]
fn the_most_lenient_app_decides_about_later_fragments() {
    let mut wireguard = app(1, Transport::Udp, 51820, 51820);
    wireguard.protection.fragments = Mode::Off;
    let game = app(2, Transport::Udp, 27015, 27015);
    let interface = [address("192.0.2.1")];
    let plan = Plan::new(
        &config(vec![wireguard, game.clone()]),
        &interface,
        &Slots::new(),
        (&[], &Arc::default()),
    );
    let plan = plan.expect("it fits");
    assert_eq!(plan.edges[&interface[0]].udp_fragments, mode::OFF);
    assert_eq!(
        plan.edges[&interface[0]].tcp_fragments,
        mode::OFF,
        "no app, no rule"
    );
    let plan = Plan::new(
        &config(vec![game]),
        &interface,
        &Slots::new(),
        (&[], &Arc::default()),
    )
    .expect("it fits");
    assert_eq!(plan.edges[&interface[0]].udp_fragments, mode::ENFORCE);
}

#[test]
fn addresses_with_the_same_apps_share_their_pages() {
    let apps = vec![app(1, Transport::Tcp, 22, 22)];
    let many: Vec<Address> = (1..200).map(|n| address(&format!("192.0.2.{n}"))).collect();
    let plan =
        Plan::new(&config(apps), &many, &Slots::new(), (&[], &Arc::default())).expect("it fits");
    assert_eq!(plan.edges.len(), many.len());
    assert_eq!(plan.pages.len(), 3, "the empty page, a page, a directory");
}

#[test]
fn ip_firewall_off_means_no_lists() {
    let mut open = app(1, Transport::Tcp, 22, 22);
    open.ip_firewall = false;
    open.protection.allow = vec!["192.0.2.0/24".parse().expect("a prefix")];
    let plan = Plan::new(
        &config(vec![open]),
        &[],
        &Slots::new(),
        (&[], &Arc::default()),
    )
    .expect("it fits");
    assert_eq!(plan.apps[&1].allowlist, mode::OFF);
    assert_eq!(plan.apps[&1].blocklist, mode::OFF);
    assert!(plan.lists.is_empty());
}

#[test]
fn an_empty_allowlist_admits_everyone() {
    let plan = Plan::new(
        &config(vec![app(1, Transport::Tcp, 22, 22)]),
        &[],
        &Slots::new(),
        (&[], &Arc::default()),
    );
    assert_eq!(plan.expect("it fits").apps[&1].allowlist, mode::OFF);
}

#[test]
fn too_many_apps_are_an_error_with_a_remedy() {
    let apps = (0..size::APPS).map(|n| {
        let mut app = app(1, Transport::Tcp, 22, 22);
        app.id = AppId((n as u128 + 1).to_be_bytes());
        app
    });
    let error = Plan::new(
        &config(apps.collect()),
        &[],
        &Slots::new(),
        (&[], &Arc::default()),
    )
    .err();
    let text = error.expect("1,024 apps do not fit").to_string();
    assert!(text.contains("1023") && text.contains("help:"), "{text}");
}

/// Asks of a rule what it asks: two apps that refuse the same share a question, and what no database
/// knows is asked by none.
#[test]
fn what_nobody_knows_is_not_asked() {
    use crate::geo::{Country, Place, Range, Ranges};

    let country = |code: &str| Country::parse(code).expect(code);
    let mut apps = [
        app(1, Transport::Tcp, 22, 22),
        app(2, Transport::Tcp, 23, 23),
    ];
    for app in &mut apps {
        app.protection.countries = Admission {
            mode: Mode::Enforce,
            allow: vec![country("DE")],
            block: Vec::new(),
        };
        app.protection.asns = Admission {
            mode: Mode::Enforce,
            allow: Vec::new(),
            block: vec![64496],
        };
    }
    let config = config(apps.to_vec());
    let planned = |places| {
        let plan = Plan::new(&config, &[], &Slots::new(), (&[], &places)).expect("it fits");
        let app = plan.apps[&1];
        (plan.questions.len(), app.countries, app.asns, app.geo)
    };
    assert_eq!(planned(Arc::default()), (0, mode::OFF, mode::OFF, 0));
    let known = |asn| {
        let database = Ranges::new([Range {
            first: [192, 0, 2, 0].into(),
            last: [192, 0, 2, 9].into(),
            place: Place {
                country: country("FR"),
                asn,
            },
        }]);
        Arc::new(Places::new([&database]))
    };
    let (on, off) = (mode::ENFORCE, mode::OFF);
    assert_eq!(planned(known(0)), (1, on, off, asked_by::APP));
    assert_eq!(planned(known(7)), (2, on, on, asked_by::APP));
}
