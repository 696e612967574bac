//! Several origins of one app: who gets what, and what happens when one is gone.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spectrum_tests::{
    Lab, client,
    daemon::HostDocument,
    origin::{self, Server, port},
    topology::{
        ETH0,
        address::{CLIENT, EDGE, ORIGIN},
    },
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, get, shielded_with};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "origins::weights_are_kept_and_a_dead_origin_costs_nobody_a_connection",
        needs: &["ip"],
        run: weights_are_kept_and_a_dead_origin_costs_nobody_a_connection,
    },
    Case {
        name: "origins::maintenance_keeps_connections_and_takes_no_more",
        needs: &["ip"],
        run: maintenance_keeps_connections_and_takes_no_more,
    },
    Case {
        name: "origins::checks_find_out_before_clients_do",
        needs: &["ip", "nginx", "redis-server"],
        run: checks_find_out_before_clients_do,
    },
    Case {
        name: "origins::a_name_leads_to_origins_and_outlives_its_servers",
        needs: &["ip", "dnsmasq"],
        run: a_name_leads_to_origins_and_outlives_its_servers,
    },
    Case {
        name: "origins::a_source_has_its_origin_over_restarts_and_transports",
        needs: &["ip"],
        run: a_source_has_its_origin_over_restarts_and_transports,
    },
];

const APP: &str = "named.lab";
const PORT: u16 = 9000;
const NAMES: [&str; 3] = ["one", "two", "three"];

/// An app whose origins listen on ports 9001, 9002, 9003 of the origin host.
fn document(transport: &str, origins: &str) -> String {
    let url = |number| format!("\"{transport}://{}\"", address(number));
    let urls = [1, 2, 3].map(url).join(", ");
    format!(
        "protocol = \"{transport}/{PORT}\"
origin_direct = [{urls}]
dns = {{ name = \"{APP}\" }}

[origins]
{origins}
"
    )
}

fn address(number: u16) -> String {
    format!("{ORIGIN}:{}", PORT + number)
}

fn tcp_origins(lab: &Lab) -> Result<Vec<Server>> {
    let named = (PORT + 1..).zip(NAMES);
    let origins = named.map(|(port, name)| origin::tcp_named(&lab.origin, port, name));
    origins.collect()
}

/// A connection, and the name of the origin that it has reached.
fn connect(lab: &Lab, source: Option<IpAddr>) -> Result<(TcpStream, String)> {
    connect_to(lab, source, PORT)
}

fn connect_to(lab: &Lab, source: Option<IpAddr>, port: u16) -> Result<(TcpStream, String)> {
    let stream = client::connect(&lab.client, source, (EDGE, port).into(), PATIENCE)?;
    let mut name = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut name)?;
    ensure!(!name.is_empty(), "the connection ended before a word");
    Ok((stream, name.trim_end().to_owned()))
}

/// Which origins so many connections reach.
fn reached(lab: &Lab, connections: u32) -> Result<BTreeMap<String, u32>> {
    let mut reached = BTreeMap::new();
    for _ in 0..connections {
        *reached.entry(connect(lab, None)?.1).or_default() += 1;
    }
    Ok(reached)
}

fn counts(counts: &[(&str, u32)]) -> BTreeMap<String, u32> {
    let counts = counts.iter();
    counts
        .map(|&(name, count)| (name.to_owned(), count))
        .collect()
}

fn weights_are_kept_and_a_dead_origin_costs_nobody_a_connection() -> Result<()> {
    let lab = Lab::new()?;
    let origins = format!(
        "weights = {{ \"tcp://{}\" = 3 }}\nbackup = [\"tcp://{}\"]\n",
        address(1),
        address(3)
    );
    let document = document("tcp", &origins);
    shielded_with(
        &lab,
        HostDocument::default(),
        &[(APP, &document)],
        |scene| {
            let mut servers = tcp_origins(&lab)?;
            let all = reached(&lab, 40)?;
            ensure!(all == counts(&[("one", 30), ("two", 10)]), "{all:?}");

            drop(servers.remove(0));
            let without_one = reached(&lab, 20)?;
            ensure!(without_one == counts(&[("two", 20)]), "{without_one:?}");
            let state = state_of(&scene, 0)?;
            ensure!(state == "paused", "the dead origin is {state}");

            drop(servers.remove(0));
            let backup = reached(&lab, 20)?;
            ensure!(backup == counts(&[("three", 20)]), "{backup:?}");

            servers.push(origin::tcp_named(&lab.origin, PORT + 1, "one")?);
            wait::until("the first origin to be used again", PATIENCE * 2, || {
                let (_, name) = connect(&lab, None)?;
                ensure!(name == "one", "{name}");
                Ok(())
            })?;
            Ok(())
        },
    )
}

fn maintenance_keeps_connections_and_takes_no_more() -> Result<()> {
    let lab = Lab::new()?;
    let open = document("tcp", "");
    let resting = format!(
        "maintenance = [\"tcp://{}\", \"tcp://{}\"]\n",
        address(1),
        address(3)
    );
    shielded_with(&lab, HostDocument::default(), &[(APP, &open)], |scene| {
        let _servers = tcp_origins(&lab)?;
        let sessions = [(); 3].map(|()| connect(&lab, None));
        let sessions = sessions.into_iter().collect::<Result<Vec<_>>>()?;

        let resting = document("tcp", &resting);
        scene.site.write_document(APP, &resting)?;
        wait::until("maintenance", PATIENCE, || {
            let state = state_of(&scene, 0)?;
            ensure!(state == "maintenance", "it is {state}");
            Ok(())
        })?;
        let left = reached(&lab, 10)?;
        ensure!(left == counts(&[("two", 10)]), "{left:?}");
        for (stream, name) in &sessions {
            client::echo_bytes(stream, b"still here")
                .with_context(|| format!("the connection to {name}"))?;
        }
        let status = scene.site.status()?;
        let origins = &status.app(APP)?.proxy()?.origins;
        ensure!(
            origins.iter().all(|origin| origin.active == 1),
            "{origins:?}"
        );

        scene.site.write_document(APP, &open)?;
        wait::until("the end of maintenance", PATIENCE, || {
            let (_, name) = connect(&lab, None)?;
            ensure!(name == "one", "{name}");
            Ok(())
        })
    })
}

fn checks_find_out_before_clients_do() -> Result<()> {
    const REDIS: &str = "redis.lab";
    const PAGE: &str = "at nginx\n";
    let lab = Lab::new()?;
    let health_file = lab.dir().join("healthz");
    fs::write(&health_file, "well\n")?;
    fs::write(lab.dir().join("index.html"), PAGE)?;
    let nginx = port::HTTP;
    let pages = format!(
        "protocol = \"tcp/{nginx}\"
origin_direct = [\"tcp://{ORIGIN}:{nginx}\", \"tcp://{ORIGIN}:8080\"]
dns = {{ name = \"{APP}\" }}
origins = {{ backup = [\"tcp://{ORIGIN}:8080\"] }}
health = {{ check = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"1s\" }}
"
    );
    let redis = format!(
        "protocol = \"tcp/{port}\"
origin_direct = [\"tcp://{ORIGIN}:{port}\"]
dns = {{ name = \"{REDIS}\" }}

[health]
check = \"tcp\"
send = {{ text = \"PING\\r\\n\" }}
expect = {{ text = \"+PONG\" }}
interval = \"200ms\"
timeout = \"1s\"
",
        port = port::REDIS
    );
    let _nginx = origin::nginx(&lab, lab.dir())?;
    let _backup = origin::http(&lab.origin, 8080)?;
    let server = origin::redis(&lab)?;
    shielded_with(
        &lab,
        HostDocument::default(),
        &[(APP, &pages), (REDIS, &redis)],
        |scene| {
            let page = || get(&lab.client, None, (EDGE, nginx).into());
            scene.wait_for("the first checks", |status| {
                let apps = [status.app(APP)?.proxy()?, status.app(REDIS)?.proxy()?];
                let mut origins = apps.iter().flat_map(|proxy| &proxy.origins);
                ensure!(
                    origins.all(|origin| origin.check.as_ref().is_some_and(|check| check.passed)),
                    "{apps:?}"
                );
                Ok(())
            })?;
            ensure!(page()? == PAGE.as_bytes());

            // As an administrator takes a server out, who does not reach the edge's documents.
            fs::remove_file(&health_file)?;
            wait_for_state(&scene, APP, "down")?;
            for _ in 0..10 {
                ensure!(page()? == b"served\n", "the origin that is down was asked");
            }
            let shown = scene.site.run("status", &[""; 0])?;
            ensure!(shown.contains("HTTP status 404"), "{shown}");

            // A server that hangs: its kernel still accepts connections.
            server.signal(Signal::SIGSTOP)?;
            wait_for_state(&scene, REDIS, "down")?;
            server.signal(Signal::SIGCONT)?;
            wait_for_state(&scene, REDIS, "up")?;
            let session = client::connect(&lab.client, None, (EDGE, port::REDIS).into(), PATIENCE)?;
            (&session).write_all(b"PING\r\n")?;
            let mut answer = String::new();
            BufReader::new(&session).read_line(&mut answer)?;
            ensure!(answer == "+PONG\r\n", "{answer:?}");

            fs::write(&health_file, "well again\n")?;
            wait_for_state(&scene, APP, "up")?;
            ensure!(page()? == PAGE.as_bytes(), "the origin is not used again");

            wait::until("the events", PATIENCE, || {
                let events = fs::read_to_string(scene.site.events())?;
                for (kind, reason) in [
                    ("originDown", "HTTP status 404"),
                    ("originDown", "no answer in 1s"),
                    ("originUp", ""),
                ] {
                    let event = format!("\"Event\":\"{kind}\"");
                    let reason = format!("\"Reason\":\"{reason}\"");
                    let mut lines = events.lines();
                    ensure!(
                        lines.any(|line| line.contains(&event) && line.contains(&reason)),
                        "no {kind} with {reason} in\n{events}"
                    );
                }
                Ok(())
            })
        },
    )
}

fn wait_for_state(scene: &Scene<'_>, app: &str, wanted: &str) -> Result<()> {
    scene.wait_for("the origin to change", |status| {
        let origin = status.app(app)?.proxy()?.origins.first();
        let origin = origin.context("no origin")?;
        ensure!(origin.state.is == wanted, "not {wanted}: {origin:?}");
        Ok(())
    })
}

fn a_name_leads_to_origins_and_outlives_its_servers() -> Result<()> {
    const SERVICE: &str = "srv.lab";
    let lab = Lab::new()?;
    let dns_servers = format!("dns_servers = [\"{ORIGIN}\"]");
    let host = HostDocument {
        keys: &dns_servers,
        ..HostDocument::default()
    };
    let other = IpAddr::from([10, 99, 0, 3]);
    lab.origin.add_address(ETH0, other)?;
    let by_address = format!(
        "protocol = \"tcp/{PORT}\"
origin_dns = {{ name = \"origin.lab\" }}
origin_port = {}
dns = {{ name = \"{APP}\" }}
",
        PORT + 1
    );
    let by_service = format!(
        "protocol = \"tcp/{}\"
origin_dns = {{ name = \"_named._tcp.lab\", type = \"SRV\" }}
dns = {{ name = \"{SERVICE}\" }}
",
        PORT + 100
    );
    // Three to one, and one for when both are gone.
    let records = |address: IpAddr| {
        [
            format!("--host-record=origin.lab,{address}"),
            format!("--host-record=one.lab,{ORIGIN}"),
            format!("--srv-host=_named._tcp.lab,one.lab,{},10,3", PORT + 1),
            format!("--srv-host=_named._tcp.lab,one.lab,{},10,1", PORT + 2),
            format!("--srv-host=_named._tcp.lab,one.lab,{},20,1", PORT + 3),
        ]
    };
    let apps = [(APP, &by_address), (SERVICE, &by_service)];
    shielded_with(&lab, host, &apps, |scene| {
        let _servers = tcp_origins(&lab)?;
        let service = || connect_to(&lab, None, PORT + 100);
        let refused = connect(&lab, None);
        ensure!(refused.is_err(), "nobody knows the origin: {refused:?}");

        let dns = origin::dns(&lab, &records(ORIGIN.into()))?;
        wait::until("the name to be resolved", PATIENCE, || connect(&lab, None))?;
        wait::until("the service to be resolved", PATIENCE, service)?;
        let mut reached = BTreeMap::new();
        for _ in 0..40 {
            *reached.entry(service()?.1).or_insert(0) += 1;
        }
        ensure!(
            reached == counts(&[("one", 30), ("two", 10)]),
            "{reached:?}"
        );

        // The DNS server is gone: what it said holds, and the operator sees it.
        drop(dns);
        scene.wait_for("the failure to be shown", |status| {
            let lookup = status.app(APP)?.proxy()?.lookup.as_ref();
            let lookup = lookup.context("no lookup")?;
            ensure!(lookup.answered.is_some(), "{lookup:?}");
            ensure!(lookup.failure.is_some(), "{lookup:?}");
            Ok(())
        })?;
        let (session, name) = connect(&lab, None)?;
        ensure!(name == "one", "{name}");
        let shown = scene.site.run("status", &[""; 0])?;
        ensure!(shown.contains("origin.lab answered"), "{shown}");

        // It is back, and says something else.
        let _dns = origin::dns(&lab, &records(other))?;
        wait::until("the new address to be used", PATIENCE * 3, || {
            connect(&lab, None)?;
            let status = scene.site.status()?;
            let origins = &status.app(APP)?.proxy()?.origins;
            ensure!(
                matches!(&origins[..], [only] if only.address.ip() == other),
                "{origins:?}"
            );
            Ok(())
        })?;
        client::echo_bytes(&session, b"still here").context("a connection to the old address")
    })
}

fn a_source_has_its_origin_over_restarts_and_transports() -> Result<()> {
    const UDP: &str = "datagrams.lab";
    let lab = Lab::new()?;
    let sources: Vec<IpAddr> = (100..112)
        .map(|last| {
            let [a, b, c, _] = CLIENT.octets();
            IpAddr::from([a, b, c, last])
        })
        .collect();
    for source in &sources {
        lab.client.add_address(ETH0, *source)?;
    }
    let tcp = document("tcp", "balance = \"source-hash\"");
    let udp = document("udp", "balance = \"source-hash\"").replace(APP, UDP);
    shielded_with(
        &lab,
        HostDocument::default(),
        &[(APP, &tcp), (UDP, &udp)],
        |scene| {
            let _tcp = tcp_origins(&lab)?;
            let named = (PORT + 1..).zip(NAMES);
            let named = named.map(|(port, name)| origin::udp_named(&lab.origin, port, name));
            let _udp = named.collect::<Result<Vec<_>>>()?;
            let over_tcp = || -> Result<Vec<String>> {
                let of = |source: &IpAddr| Ok(connect(&lab, Some(*source))?.1);
                sources.iter().map(of).collect()
            };
            let over_udp = || -> Result<Vec<String>> {
                let of = |source: &IpAddr| {
                    let socket = client::udp(&lab.client, Some(*source), (EDGE, PORT).into())?;
                    socket.send(b"who are you?")?;
                    let mut name = [0; 16];
                    let length = socket.recv(&mut name).context("waiting for the name")?;
                    let name = name.get(..length).unwrap_or_default();
                    Ok(String::from_utf8_lossy(name).into_owned())
                };
                sources.iter().map(of).collect()
            };
            let first = over_tcp()?;
            let in_use = NAMES.iter().filter(|name| first.iter().any(|f| f == *name));
            ensure!(in_use.count() > 1, "all sources have the same origin");
            ensure!(over_tcp()? == first, "a source changed its origin");
            // Ports, not addresses, tell these origins apart, and they are the same for both.
            ensure!(over_udp()? == first, "a source has another origin over UDP");

            scene.daemon.stop()?;
            let _daemon = scene.site.start()?;
            ensure!(over_tcp()? == first, "a restart moved a source");
            ensure!(over_udp()? == first, "a restart moved a source over UDP");
            Ok(())
        },
    )
}

/// Whether the app's origin of this index is `up`, and so on.
fn state_of(scene: &Scene<'_>, index: usize) -> Result<String> {
    let status = scene.site.status()?;
    let origins = &status.app(APP)?.proxy()?.origins;
    let origin = origins.get(index).context("no such origin")?;
    Ok(origin.state.is.clone())
}
