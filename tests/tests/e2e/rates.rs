//! Floods: the attackers are held to their rates, the clients notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spectrum_tests::{
    attack::{self, Flood},
    client::{self, Http, Probe},
    daemon::AppDocument,
    origin::{self, port},
    packet,
    topology::address::{ATTACKER, EDGE},
};

use crate::harness::{Case, PATIENCE, shielded};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rates::a_source_above_its_packet_rate_is_held_to_it",
        needs: &[],
        run: a_source_above_its_packet_rate_is_held_to_it,
    },
    Case {
        name: "rates::clients_are_served_through_a_syn_flood",
        needs: &[],
        run: clients_are_served_through_a_syn_flood,
    },
];

/// How often a legitimate client comes.
const EVERY: Duration = Duration::from_millis(100);

fn a_source_above_its_packet_rate_is_held_to_it() -> Result<()> {
    const SENT: u64 = 10_000;
    const PER_SECOND: f64 = 100.0;
    const BURST: f64 = 50.0;
    let app = AppDocument {
        protection: "packet_rate = { mode = \"enforce\", per_second = 100, burst = 50 }",
        ..AppDocument::udp("echo.lab", port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let socket = client::udp(&lab.client, None, edge)?;
        let probe = Probe::start("echo", EVERY, move || {
            client::echo_datagram(&socket, b"hello")
        })?;
        let from = (ATTACKER, 40_000).into();
        let flood = Flood {
            frames: vec![packet::udp(lab.attack_path(), from, edge, b"flood")?],
            per_second: 4000,
            count: SENT,
        };
        let begun = Instant::now();
        flood.run(&lab.attacker)?;
        let admitted = BURST + PER_SECOND * (begun.elapsed().as_secs_f64() + 1.0);
        let served = probe.stop();

        ensure!(
            served.attempts > 10 && served.successes == served.attempts,
            "{served:?}"
        );
        scene.wait_for("what exceeds the rate to be dropped", |status| {
            let filter = &status.app("echo.lab")?.filter;
            ensure!(filter.reasons() == ["packet_rate"], "{filter:?}");
            let passed = SENT - filter.dropped("packet_rate");
            ensure!(passed as f64 <= admitted, "{passed} passed, not {admitted}");
            ensure!(
                passed as f64 >= BURST,
                "{passed} passed: not even the burst"
            );
            Ok(())
        })
    })
}

fn clients_are_served_through_a_syn_flood() -> Result<()> {
    // Only the rate: a mitigation would drop all of the flood.
    let protection = "mitigation = { sensitivity = \"off\" }
        syn_rate = { mode = \"enforce\", per_second = 20, burst = 40 }";
    let app = |name, port| AppDocument {
        protection,
        ..AppDocument::tcp(name, port)
    };
    shielded(
        &[app("http.lab", port::HTTP), app("other.lab", 8080)],
        |scene| {
            let lab = scene.lab;
            let _origins = [port::HTTP, 8080].map(|port| origin::http(&lab.origin, port));
            let probe = |port: u16| {
                let client = lab.client.clone();
                Probe::start("http", EVERY, move || {
                    let stream = client::connect(&client, None, (EDGE, port).into(), PATIENCE)?;
                    Http::new(stream).get("/").map(drop)
                })
            };
            let probes = [probe(port::HTTP)?, probe(8080)?];
            let sources = attack::sources([198, 51, 100, 1].into(), 254);
            let edge = (EDGE, port::HTTP).into();
            let flood = Flood {
                frames: attack::syns(lab.attack_path(), sources, edge)?,
                per_second: 40_000,
                count: 160_000,
            };
            let begun = Instant::now();
            let sent = flood.run(&lab.attacker)?;
            let seconds = begun.elapsed().as_secs_f64();
            for served in probes.map(Probe::stop) {
                ensure!(
                    served.attempts > 10 && served.successes == served.attempts,
                    "{served:?}"
                );
            }
            let filter = scene.filter("http.lab")?;
            ensure!(filter.reasons() == ["syn_rate"], "{filter:?}");
            let admitted = 254.0 * (40.0 + 20.0 * (seconds + 1.0));
            let dropped = filter.dropped("syn_rate");
            ensure!(
                dropped as f64 >= sent as f64 * 0.9 - admitted,
                "{dropped} of {sent} dropped"
            );
            let other = scene.filter("other.lab")?;
            ensure!(
                other.reasons().is_empty(),
                "the flood of one app touched another: {other:?}"
            );
            Ok(())
        },
    )
}
