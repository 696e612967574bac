//! Floods from sources without number: the app gets no more than its ceiling, and those whom it
//! knows notice nothing.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client::{self, Http, Probe, Served},
    daemon::AppDocument,
    origin::{self, port},
    packet,
    topology::{ETH0, address::EDGE},
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, shielded};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ceilings::known_clients_are_served_through_a_udp_flood_of_random_sources",
        needs: &[],
        run: known_clients_are_served_through_a_udp_flood_of_random_sources,
    },
    Case {
        name: "ceilings::known_clients_connect_through_a_syn_flood_of_random_sources",
        needs: &[],
        run: known_clients_connect_through_a_syn_flood_of_random_sources,
    },
];

const CLIENTS: u8 = 50;
const EVERY: Duration = Duration::from_millis(100);

/// A flood of the lab, of which each packet has another source.
const SOURCES: u32 = 40_000;
const PER_SECOND: u32 = 40_000;
const SECONDS: u32 = 4;

fn known_clients_are_served_through_a_udp_flood_of_random_sources() -> Result<()> {
    const STRANGERS: u64 = 500;
    let app = AppDocument {
        // Only the ceiling: a mitigation would meet the flood before it.
        protection: "mitigation = { sensitivity = \"off\" }
            ceiling = { packets_per_second = 5_000, new_flows_per_second = 500 }",
        ..AppDocument::udp("echo.lab", port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let probes = probes(lab, |source| {
            let socket = client::udp(&lab.client, Some(source), edge)?;
            Ok(move || client::echo_datagram(&socket, b"hello"))
        })?;
        wait_until_known(&scene)?;
        let before = scene.filter("echo.lab")?;
        ensure!(before.reasons().is_empty(), "{before:?}");

        let datagrams = random_sources()
            .map(|source| packet::udp(lab.attack_path(), source, edge, b"flood"))
            .collect::<Result<_>>()?;
        let sent = flood(&scene, datagrams)?;
        ensure_served(probes)?;
        ensure_held(&scene, "echo.lab", sent, STRANGERS)
    })
}

fn known_clients_connect_through_a_syn_flood_of_random_sources() -> Result<()> {
    const FLOWS: u64 = 1_000;
    let app = AppDocument {
        protection: "mitigation = { sensitivity = \"off\" }
            ceiling = { new_flows_per_second = 1_000 }",
        ..AppDocument::tcp("http.lab", port::HTTP)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _http = origin::http(&lab.origin, port::HTTP)?;
        let edge = (EDGE, port::HTTP).into();
        let probes = probes(lab, |source| {
            let client = lab.client.clone();
            Ok(move || {
                let stream = client::connect(&client, Some(source), edge, PATIENCE)?;
                Http::new(stream).get("/").map(drop)
            })
        })?;
        wait_until_known(&scene)?;

        let sources = random_sources().map(|source| source.ip());
        let sent = flood(&scene, attack::syns(lab.attack_path(), sources, edge)?)?;
        ensure_served(probes)?;
        ensure_held(&scene, "http.lab", sent, FLOWS)
    })
}

fn clients() -> impl Iterator<Item = IpAddr> {
    (100..100 + CLIENTS).map(|host| Ipv4Addr::new(203, 0, 113, host).into())
}

/// Sources and ports of a flood, all over the address space that is there for benchmarks.
pub(crate) fn random_sources() -> impl Iterator<Item = SocketAddr> {
    (0..SOURCES).map(|number| {
        let bits = number.wrapping_mul(0x9e37_79b1) >> 15;
        let [_, a, b, c] = bits.to_be_bytes();
        // Above the ports of reflectors.
        let port = 30_000 + u16::from_be_bytes([b, c]) % 30_000;
        (Ipv4Addr::new(198, 18 + a, b, c), port).into()
    })
}

/// A client at each address, which comes again and again.
fn probes<C: Fn() -> Result<()> + Send + 'static>(
    lab: &Lab,
    client: impl Fn(IpAddr) -> Result<C>,
) -> Result<Vec<Probe>> {
    let start = |source| {
        lab.client.add_address(ETH0, source)?;
        Probe::start("client", EVERY, client(source)?)
    };
    clients().map(start).collect()
}

/// Waits until the filter knows that each client is real.
fn wait_until_known(scene: &Scene<'_>) -> Result<()> {
    for source in clients() {
        wait::until("a client to be known", PATIENCE, || {
            let why = scene
                .site
                .run("why", &[&source.to_string(), "-o", "json"])?;
            let why: serde_json::Value = serde_json::from_str(&why)?;
            ensure!(why["verdicts"][0]["known"] == true, "{why}");
            Ok(())
        })?;
    }
    Ok(())
}

fn flood(scene: &Scene<'_>, frames: Vec<Vec<u8>>) -> Result<u64> {
    let flood = Flood {
        frames,
        per_second: PER_SECOND,
        count: u64::from(PER_SECOND * SECONDS),
    };
    flood.run(&scene.lab.attacker)
}

/// 99 of 100 attempts, over all clients.
fn ensure_served(probes: Vec<Probe>) -> Result<()> {
    let all = probes.into_iter().map(Probe::stop);
    let sum = all.fold(Served::default(), |sum, served| Served {
        attempts: sum.attempts + served.attempts,
        successes: sum.successes + served.successes,
    });
    let least = u64::from(CLIENTS) * 10;
    ensure!(sum.attempts >= least && sum.percent() >= 99.0, "{sum:?}");
    Ok(())
}

/// All but what the ceiling admits was dropped, and for that reason alone.
fn ensure_held(scene: &Scene<'_>, app: &str, sent: u64, per_second: u64) -> Result<()> {
    let filter = scene.filter(app)?;
    ensure!(filter.reasons() == ["ceiling"], "{filter:?}");
    // The attacker may be slower than it wants to be, by half.
    let admitted = per_second * u64::from(SECONDS) * 2 + per_second;
    let dropped = filter.dropped("ceiling");
    ensure!(
        dropped + admitted >= sent,
        "{dropped} of {sent} dropped, all but {admitted} expected"
    );
    Ok(())
}
