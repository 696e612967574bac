//! The engine: a flood that has a fingerprint goes and leaves no trace, and a crowd of real clients
//! stays.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spectrum_tests::{
    attack::{self, Flood},
    client::{self, Probe},
    daemon::{AppDocument, status::Status},
    origin::{self, port},
    packet,
    topology::address::{CLIENT, EDGE},
    wait,
};

use crate::harness::{Case, Scene, noise, shielded, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "mitigation::a_flood_is_met_by_its_fingerprint_and_clients_are_served",
        needs: &[],
        run: a_flood_is_met_by_its_fingerprint_and_clients_are_served,
    },
    Case {
        name: "mitigation::a_crowd_of_real_clients_is_let_alone",
        needs: &[],
        run: a_crowd_of_real_clients_is_let_alone,
    },
    Case {
        name: "mitigation::real_clients_are_spared_before_the_app_is_known",
        needs: &[],
        run: real_clients_are_spared_before_the_app_is_known,
    },
    Case {
        name: "mitigation::a_signature_outlives_the_daemon_and_is_taken_over",
        needs: &[],
        run: a_signature_outlives_the_daemon_and_is_taken_over,
    },
    Case {
        name: "mitigation::what_the_operator_removes_stays_away",
        needs: &[],
        run: what_the_operator_removes_stays_away,
    },
];

/// How long the engine may take: to know an app, to meet a flood, and to forget it.
const ENGINE_PATIENCE: Duration = Duration::from_secs(45);

const ECHO: AppDocument<'_> = AppDocument {
    // The lab's machines are slow: a flood there is a trickle elsewhere.
    protection: "mitigation = { sensitivity = \"high\" }",
    ..AppDocument::udp("echo.lab", port::ECHO)
};

/// What every client sends first.
const HELLO: &[u8] = b"hello, who is there?";

/// The flood's packets begin so.
const PREFIX: &[u8] = b"\x13\x37flood";

fn edge() -> SocketAddr {
    (EDGE, port::ECHO).into()
}

fn a_flood_is_met_by_its_fingerprint_and_clients_are_served() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let _clients = [client(&scene)?, client(&scene)?];
        wait_for_state(&scene, "calm")?;

        let begun = Instant::now();
        let flood = fixed_prefix(&scene, u64::MAX)?.start(&scene.lab.attacker)?;
        let mitigation = wait_for_mitigation(&scene)?;
        eprintln!(
            "from the flood's first packet to its signature: {:?}",
            begun.elapsed()
        );
        let fingerprint = mitigation["fingerprint"].as_str().context("fingerprint")?;
        ensure!(fingerprint.contains("13 37 66 6c"), "{fingerprint}");
        let evidence = &mitigation["evidence"];
        ensure!(evidence["baseline_matching"] == 0, "{evidence}");

        let (before, client) = (scene.filter("echo.lab")?, client(&scene)?);
        scene.wait_for("the flood to be dropped", |status| {
            let dropped = status.app("echo.lab")?.filter.dropped("signature");
            ensure!(dropped >= before.dropped("signature") + 10_000, "{dropped}");
            Ok(())
        })?;
        let served = client.stop();
        flood.stop()?;
        ensure!(
            served.attempts >= 20 && served.percent() >= 99.0,
            "{served:?}"
        );

        wait::until("the signature to go", ENGINE_PATIENCE, || {
            let left = mitigations(&scene)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        let log = std::fs::read_to_string(scene.site.events())?;
        for event in ["mitigationInstalled", "mitigationExpired"] {
            let times = log.matches(event).count();
            ensure!(times == 1, "{event} {times} times in the log of events");
        }
        Ok(())
    })
}

/// The same clients a hundred times over: each begins with the same packet.
fn a_crowd_of_real_clients_is_let_alone() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let _clients = [client(&scene)?, client(&scene)?];
        wait_for_state(&scene, "calm")?;
        let path = scene.lab.attack_path();
        let sources = attack::sources([198, 18, 0, 1].into(), 4000);
        let frames = sources.zip(0_u16..).map(|(source, number)| {
            let from = (source, 20_000 + number).into();
            packet::udp(path, from, edge(), &conversation(number.into()))
        });
        let crowd = Flood {
            frames: frames.collect::<Result<_>>()?,
            per_second: 5000,
            count: 40_000,
        };
        let crowd = crowd.start(&scene.lab.attacker)?;
        wait_for_state(&scene, "flooded")?;
        let is_over = || {
            let sent = crowd.sent();
            ensure!(sent == 40_000, "{sent} sent");
            Ok(())
        };
        wait::until("the crowd to have come", ENGINE_PATIENCE, is_over)?;
        wait_for_state(&scene, "calm")?;
        let installed = scene.daemon.log().contains("mitigation ");
        ensure!(!installed, "real clients were taken for a flood");
        let filter = scene.filter("echo.lab")?;
        ensure!(filter.dropped("signature") == 0, "{filter:?}");
        Ok(())
    })
}

/// A new daemon knows nothing of an app but who has proved to be real, and the flood repeats what
/// its clients say.
fn real_clients_are_spared_before_the_app_is_known() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let clients = [client(&scene)?, client(&scene)?];
        let known = || {
            let why = scene.site.run("why", &[&CLIENT.to_string()])?;
            ensure!(why.contains("known to be real"), "{why}");
            Ok(())
        };
        wait::until("the clients to prove themselves", ENGINE_PATIENCE, known)?;
        drop(clients);
        let Scene { lab, site, daemon } = scene;
        daemon.stop()?;
        let daemon = site.start()?;
        let scene = Scene { lab, site, daemon };
        let clients = [client(&scene)?, client(&scene)?];
        let flood = hello_from_everywhere(&scene)?.start(&scene.lab.attacker)?;
        wait_for_state(&scene, "flooded")?;
        let is_under_way = || {
            let sent = flood.sent();
            ensure!(sent > 50_000, "{sent} sent");
            Ok(())
        };
        wait::until(
            "the flood to go on for a while",
            ENGINE_PATIENCE,
            is_under_way,
        )?;
        for client in clients {
            let served = client.stop();
            ensure!(
                served.attempts >= 20 && served.percent() >= 95.0,
                "{served:?}"
            );
        }
        let installed = mitigations(&scene)?;
        ensure!(installed.is_empty(), "{installed:?}");
        flood.stop().map(drop)
    })
}

fn a_signature_outlives_the_daemon_and_is_taken_over() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let clients = [client(&scene)?, client(&scene)?];
        wait_for_state(&scene, "calm")?;
        let flood = fixed_prefix(&scene, u64::MAX)?.start(&scene.lab.attacker)?;
        let id = wait_for_mitigation(&scene)?["id"].clone();
        // Nobody is served without a daemon, and nobody shall wait for it.
        drop(clients);
        let Scene { site, daemon, .. } = &scene;
        daemon.signal(Signal::SIGKILL)?;
        wait_for(site, "the filter to go on alone", |status| {
            ensure!(status.daemon.is_none(), "the daemon is still there");
            Ok(())
        })?;
        let dropped = |status: &Status| -> Result<u64> {
            Ok(status.app("echo.lab")?.filter.dropped("signature"))
        };
        let before = dropped(&site.status()?)?;
        wait_for(site, "the flood to be dropped without a daemon", |status| {
            let now = dropped(status)?;
            ensure!(now >= before + 5000, "{now}, {before} before");
            Ok(())
        })?;
        let _next = site.start()?;
        let known = mitigations(&scene)?;
        let ids: Vec<&Value> = known.iter().map(|mitigation| &mitigation["id"]).collect();
        ensure!(ids == [&id], "{known:?}");
        flood.stop()?;
        wait::until("the signature to go", ENGINE_PATIENCE, || {
            let left = mitigations(&scene)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    })
}

fn what_the_operator_removes_stays_away() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let _clients = [client(&scene)?, client(&scene)?];
        wait_for_state(&scene, "calm")?;
        let flood = fixed_prefix(&scene, u64::MAX)?.start(&scene.lab.attacker)?;
        let id = wait_for_mitigation(&scene)?["id"].to_string();
        let accepted = scene
            .site
            .run("mitigations", &["accept", &id, "-o", "json"])?;
        let accepted: Value = serde_json::from_str(&accepted)?;
        ensure!(accepted["expires"].is_null(), "{accepted}");

        scene.site.run("mitigations", &["remove", &id])?;
        let before = scene.filter("echo.lab")?;
        scene.wait_for("the flood to pass", |status| {
            let passed = status.app("echo.lab")?.filter.passed.packets;
            ensure!(passed >= before.passed.packets + 20_000, "{passed}");
            Ok(())
        })?;
        flood.stop()?;
        let left = mitigations(&scene)?;
        ensure!(left.is_empty(), "{left:?}");
        let after = scene.filter("echo.lab")?;
        ensure!(
            after.dropped("signature") == before.dropped("signature"),
            "{after:?}"
        );
        let gone = scene.site.attempt("mitigations", &["remove", &id])?;
        ensure!(!gone.status.success(), "removed twice");
        Ok(())
    })
}

/// A client that says hello now and then, and different things in between.
fn client(scene: &Scene<'_>) -> Result<Probe> {
    let socket = client::udp(&scene.lab.client, None, edge())?;
    let said = AtomicUsize::new(0);
    Probe::start("echo", Duration::from_millis(20), move || {
        client::echo_datagram(&socket, &conversation(said.fetch_add(1, Ordering::Relaxed)))
    })
}

/// One in four is the same for all clients, the others differ in all that can differ.
fn conversation(number: usize) -> Vec<u8> {
    if number.is_multiple_of(4) {
        return HELLO.to_vec();
    }
    let start = number * 7 % 4096;
    let length = 40 + number * 13 % 600;
    let noise = noise(start + length);
    noise.into_iter().skip(start).collect()
}

/// A flood from sources and ports that nobody has seen, whose payloads only begin alike.
fn fixed_prefix(scene: &Scene<'_>, count: u64) -> Result<Flood> {
    let path = scene.lab.attack_path();
    let sources = attack::sources([198, 51, 100, 1].into(), 4000);
    let frames = sources.zip(0_u16..).map(|(source, number)| {
        let mut payload = PREFIX.to_vec();
        payload.extend(number.to_be_bytes());
        payload.resize(100, 0);
        packet::udp(path, (source, 1024 + number).into(), edge(), &payload)
    });
    Ok(Flood {
        frames: frames.collect::<Result<_>>()?,
        per_second: 5000,
        count,
    })
}

/// What clients say, from sources and ports that nobody has seen.
fn hello_from_everywhere(scene: &Scene<'_>) -> Result<Flood> {
    let path = scene.lab.attack_path();
    let sources = attack::sources([198, 51, 100, 1].into(), 4000);
    let frames = sources
        .zip(0_u16..)
        .map(|(source, number)| packet::udp(path, (source, 1024 + number).into(), edge(), HELLO));
    Ok(Flood {
        frames: frames.collect::<Result<_>>()?,
        per_second: 8000,
        count: u64::MAX,
    })
}

fn wait_for_mitigation(scene: &Scene<'_>) -> Result<Value> {
    wait::until("a signature", ENGINE_PATIENCE, || {
        match mitigations(scene)?.first() {
            Some(mitigation) => Ok(mitigation.clone()),
            None => bail!("the flood goes on"),
        }
    })
}

fn mitigations(scene: &Scene<'_>) -> Result<Vec<Value>> {
    let json = scene.site.run("mitigations", &["-o", "json"])?;
    Ok(serde_json::from_str(&json)?)
}

/// Waits until the engine takes the app for what it is.
fn wait_for_state(scene: &Scene<'_>, state: &str) -> Result<()> {
    wait::until("the engine", ENGINE_PATIENCE, || {
        let status: Value = serde_json::from_str(&scene.site.run("status", &["-o", "json"])?)?;
        let engine = &status["apps"][0]["engine"];
        ensure!(engine["state"] == state, "{engine}, not {state}");
        Ok(())
    })
}
