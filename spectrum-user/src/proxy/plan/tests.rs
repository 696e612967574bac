#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::config::{
    Admission, Amplification, Ceiling, DataPath, Datagrams, HeaderOn, Limits, Mitigation, Mode,
    Origin, PortRange, Protection, ProxyProtocol, Rate, SynChallenge, Timeouts, When,
};

pub(in crate::proxy) fn app(id: u8, ports: (u16, u16), edge_ips: EdgeIps) -> Arc<App> {
    let off = Rate {
        mode: Mode::Off,
        per_second: 1,
        burst: 1,
    };
    Arc::new(App {
        id: AppId([id; 16]),
        name: format!("app-{id}"),
        document: PathBuf::new(),
        transport: Transport::Tcp,
        ports: PortRange {
            first: ports.0,
            last: ports.1,
        },
        edge_ips,
        origins: [Origin {
            ip: Ipv4Addr::LOCALHOST.into(),
            first_port: 1,
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
            connect: Duration::from_secs(1),
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(1),
            max_duration: None,
        },
        limits: Limits::NONE,
        ip_firewall: false,
        protection: Protection {
            block: Vec::new(),
            blocklist: Mode::Off,
            allow: Vec::new(),
            allowlist: Mode::Off,
            countries: Admission::ALL,
            asns: Admission::ALL,
            reflectors: Mode::Off,
            reflector_ports: Vec::new(),
            fragments: Mode::Off,
            packet_rate: off,
            ceiling: Ceiling::NONE,
            tcp_session: None,
            datagrams: Datagrams::ANY,
            amplification: Amplification::ANY,
            syn_rate: off,
            syn_challenge: SynChallenge {
                when: When::Never,
                above: 1,
            },
            out_of_state: Mode::Off,
            out_of_state_above: 0,
            mitigation: Mitigation::OFF,
            rules: Vec::new(),
        },
    })
}

fn at(id: u8, ports: (u16, u16)) -> Arc<App> {
    app(
        id,
        ports,
        EdgeIps::Static(vec![IpAddr::from([192, 0, 2, 1])]),
    )
}

fn serve(apps: &[Arc<App>]) -> Served {
    let nothing = Served::default();
    let plan = Plan::new(&nothing, apps, &HashSet::new(), true).unwrap();
    Served {
        listeners: plan
            .open
            .iter()
            .map(|(bind, app)| (*bind, app.id))
            .collect(),
        apps: apps.to_vec(),
    }
}

fn ports<'a>(binds: impl IntoIterator<Item = &'a Bind>) -> Vec<u16> {
    let mut ports: Vec<_> = binds.into_iter().map(|bind| bind.address.port()).collect();
    ports.sort_unstable();
    ports
}

/// A reload that changes nothing must touch nothing.
#[test]
fn the_same_apps_need_no_change() {
    let apps = [at(1, (22, 22)), at(2, (80, 81))];
    let served = serve(&apps);
    let plan = Plan::new(&served, &apps, &HashSet::new(), true).unwrap();
    assert!(plan.open.is_empty() && plan.close.is_empty() && plan.hand_over.is_empty());
    assert!(plan.add.is_empty() && plan.update.is_empty() && plan.remove.is_empty());
    assert_eq!(plan.changes.unchanged, ["app-1", "app-2"]);
}

#[test]
fn only_the_ports_that_differ_are_touched() {
    let served = serve(&[at(1, (10, 15)), at(2, (20, 20))]);
    let apps = [at(1, (12, 17)), at(3, (20, 20))];
    let plan = Plan::new(&served, &apps, &HashSet::new(), true).unwrap();
    assert_eq!(ports(plan.open.iter().map(|(bind, _)| bind)), [16, 17]);
    assert_eq!(ports(&plan.close), [10, 11]);
    assert_eq!(plan.hand_over.len(), 1);
    assert_eq!(plan.hand_over[0].1, AppId([3; 16]));
    assert_eq!(plan.changes.updated, ["app-1"]);
    assert_eq!(plan.changes.added, ["app-3"]);
    assert_eq!(plan.changes.removed, ["app-2"]);
}

#[test]
fn dynamic_addresses_are_the_wildcards_of_the_families_that_exist() {
    let table = [
        (Connectivity::All, true, &["0.0.0.0", "::"][..]),
        (Connectivity::All, false, &["0.0.0.0"]),
        (Connectivity::Ipv4, true, &["0.0.0.0"]),
        (Connectivity::Ipv6, false, &["::"]),
    ];
    for (connectivity, ipv6, expected) in table {
        let app = app(1, (22, 22), EdgeIps::Dynamic(connectivity));
        let ips: Vec<_> = binds(&app, ipv6)
            .map(|bind| bind.address.ip().to_string())
            .collect();
        assert_eq!(ips, expected, "{connectivity:?}");
    }
}

#[test]
fn apps_that_claim_the_same_are_refused() {
    let served = Served::default();
    let overlap = [at(1, (10, 20)), at(2, (20, 30))];
    let error = Plan::new(&served, &overlap, &HashSet::new(), true).unwrap_err();
    assert!(error.to_string().contains("app-1") && error.to_string().contains("192.0.2.1:20"));
    let same_id = [at(1, (10, 10)), at(1, (11, 11))];
    let error = Plan::new(&served, &same_id, &HashSet::new(), true).unwrap_err();
    assert!(matches!(error, ApplyError::SameId { .. }));
}
