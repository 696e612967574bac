//! What the filter keeps out, and whom it lets in.

use std::{collections::BTreeMap, io::ErrorKind, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client,
    daemon::{AppDocument, HostDocument},
    origin::{self, port},
    packet,
    topology::{
        ETH0, FRONT,
        address::{ATTACKER, ATTACKER_V6, CLIENT, EDGE, EDGE_V6},
    },
    wait,
};

use crate::harness::{Case, PATIENCE, SILENCE, Scene, ensure_silent, get, shielded, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "filter::a_blocked_source_is_out_until_unblocked_or_expired",
        needs: &[],
        run: a_blocked_source_is_out_until_unblocked_or_expired,
    },
    Case {
        name: "filter::documents_block_prefixes_and_spare_allowed_sources",
        needs: &[],
        run: documents_block_prefixes_and_spare_allowed_sources,
    },
    Case {
        name: "filter::what_the_operator_blocks_stays_blocked_when_documents_change",
        needs: &[],
        run: what_the_operator_blocks_stays_blocked_when_documents_change,
    },
    Case {
        name: "filter::an_allowlist_admits_nobody_else",
        needs: &[],
        run: an_allowlist_admits_nobody_else,
    },
    Case {
        name: "filter::reflected_answers_are_dropped",
        needs: &[],
        run: reflected_answers_are_dropped,
    },
    Case {
        name: "filter::fragments_are_dropped",
        needs: &[],
        run: fragments_are_dropped,
    },
    Case {
        name: "filter::tagged_packets_are_served_and_dropped_like_others",
        needs: &[],
        run: tagged_packets_are_served_and_dropped_like_others,
    },
    Case {
        name: "filter::a_monitored_rule_counts_and_lets_pass",
        needs: &[],
        run: a_monitored_rule_counts_and_lets_pass,
    },
    Case {
        name: "filter::a_closed_port_is_silent",
        needs: &[],
        run: a_closed_port_is_silent,
    },
    Case {
        name: "filter::malformed_packets_are_told_apart",
        needs: &[],
        run: malformed_packets_are_told_apart,
    },
    Case {
        name: "filter::why_tells_the_truth",
        needs: &[],
        run: why_tells_the_truth,
    },
];

const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);
const ECHO: AppDocument<'_> = AppDocument::udp("echo.lab", port::ECHO);

fn a_blocked_source_is_out_until_unblocked_or_expired() -> Result<()> {
    shielded(&[HTTP], |scene| {
        let (lab, site) = (scene.lab, &scene.site);
        let _http = origin::http(&lab.origin, port::HTTP)?;
        for (edge, attacker) in ways() {
            let edge = (edge, port::HTTP).into();
            let source = attacker.to_string();
            let is_served = |host| get(host, None, edge).map(drop);
            is_served(&lab.attacker).context("before the block")?;

            site.run("block", &[&source])?;
            ensure_silent(&lab.attacker, None, edge)?;
            is_served(&lab.client).context("beside the block")?;
            site.run("unblock", &[&source])?;
            is_served(&lab.attacker).context("after unblock")?;

            site.run("block", &[&source, "--for", "3s"])?;
            ensure_silent(&lab.attacker, None, edge)?;
            wait::until("the block to expire", PATIENCE, || is_served(&lab.attacker))?;
        }
        let dropped = scene.filter("http.lab")?;
        ensure!(dropped.reasons() == ["blocked"], "{dropped:?}");
        Ok(())
    })
}

fn documents_block_prefixes_and_spare_allowed_sources() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let spared: IpAddr = [203, 0, 113, 67].into();
    lab.attacker.add_address(ETH0, spared)?;
    let host = HostDocument {
        protection: &format!("block = [\"203.0.113.64/26\"]\nallow = [\"{spared}\"]"),
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[HTTP], |_| {
        let edge = (EDGE, port::HTTP).into();
        ensure_silent(&lab.attacker, None, edge)?;
        get(&lab.attacker, Some(spared), edge).context("the allowed source")?;
        get(&lab.client, None, edge).context("a source outside the prefix")?;
        Ok(())
    })
}

/// The first entry of all needs a larger table than the one that the daemon has made.
fn what_the_operator_blocks_stays_blocked_when_documents_change() -> Result<()> {
    shielded(&[HTTP], |scene| {
        let _http = origin::http(&scene.lab.origin, port::HTTP)?;
        let edge = (EDGE, port::HTTP).into();
        scene.site.run("block", &[&ATTACKER.to_string()])?;
        for protection in ["block = [\"192.0.2.0/24\"]", "", "allow = [\"192.0.2.7\"]"] {
            let reloads = || scene.daemon.log().matches("reloaded: ").count();
            let before = reloads();
            scene.site.write_host(HostDocument {
                protection,
                ..HostDocument::default()
            })?;
            wait::until("the daemon to follow the documents", PATIENCE, || {
                ensure!(reloads() > before, "{before} reloads");
                Ok(())
            })?;
            ensure_silent(&scene.lab.attacker, None, edge)
                .with_context(|| format!("with {protection:?}"))?;
        }
        scene.site.run("unblock", &[&ATTACKER.to_string()])?;
        get(&scene.lab.attacker, None, edge).map(drop)
    })
}

fn an_allowlist_admits_nobody_else() -> Result<()> {
    let private = AppDocument {
        protection: &format!("allow = [\"{CLIENT}\"]"),
        ..HTTP
    };
    let public = AppDocument::tcp("public.lab", 8080);
    shielded(&[private, public], |scene| {
        let lab = scene.lab;
        let _private = origin::http(&lab.origin, port::HTTP)?;
        let _public = origin::http(&lab.origin, 8080)?;
        let edge = |port| (EDGE, port).into();
        get(&lab.client, None, edge(port::HTTP)).context("the listed client")?;
        ensure_silent(&lab.attacker, None, edge(port::HTTP))?;
        get(&lab.attacker, None, edge(8080)).context("an app without a list")?;
        let filter = scene.filter("http.lab")?;
        ensure!(filter.reasons() == ["not_allowed"], "{filter:?}");
        Ok(())
    })
}

fn reflected_answers_are_dropped() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let sources = attack::sources([192, 0, 2, 1].into(), 254);
        let edge = (EDGE, port::ECHO).into();
        let frames = attack::reflections(scene.lab.attack_path(), sources, edge)?;
        attack_beside_a_client(&scene, frames, "reflector")
    })
}

fn fragments_are_dropped() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let path = scene.lab.attack_path();
        let mut frames = Vec::new();
        for (edge, attacker) in ways() {
            let edge = (edge, port::ECHO).into();
            frames.extend(attack::fragments(path, [attacker].into_iter(), edge)?);
        }
        // A fragment without ports belongs to no app that could be known: two of four are the host's.
        let send = |scene: &Scene<'_>| flood(scene, frames, 2000);
        send(&scene)?;
        scene.wait_for("all fragments to be dropped", |status| {
            let dropped = status.filter().dropped("fragment");
            ensure!(dropped == 2000, "{dropped} of 2000");
            Ok(())
        })
    })
}

/// Tags of no VLAN (id 0, priorities only; IEEE 802.1Q) reach the host's own sockets.
const PRIORITY: u16 = 0;
const VLAN: u16 = 100;

fn tagged_packets_are_served_and_dropped_like_others() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        for (edge, attacker) in ways() {
            let edge = (edge, port::ECHO).into();
            let socket = client::udp(&lab.attacker, Some(attacker), edge)?;
            let bare = packet::udp(lab.attack_path(), socket.local_addr()?, edge, b"tagged")?;
            for tags in [&[PRIORITY][..], &[PRIORITY, PRIORITY]] {
                flood(&scene, vec![with_tags(&bare, tags)?], 1)?;
                let mut answer = [0; 16];
                let length = socket
                    .recv(&mut answer)
                    .with_context(|| format!("{tags:?}"))?;
                ensure!(answer[..length] == *b"tagged");
            }
            scene.site.run("block", &[attacker.to_string()])?;
            let before = scene.filter("echo.lab")?.dropped("blocked");
            let tagged = [&[VLAN][..], &[VLAN, VLAN]].map(|tags| with_tags(&bare, tags));
            flood(&scene, tagged.into_iter().collect::<Result<_>>()?, 20)?;
            scene.wait_for("tagged packets to be dropped", |status| {
                let dropped = status.app("echo.lab")?.filter.dropped("blocked") - before;
                ensure!(dropped == 20, "{dropped} of 20");
                Ok(())
            })?;
        }
        Ok(())
    })
}

fn with_tags(frame: &[u8], tags: &[u16]) -> Result<Vec<u8>> {
    tags.iter()
        .try_fold(frame.to_vec(), |frame, tag| packet::tagged(&frame, *tag))
}

fn a_monitored_rule_counts_and_lets_pass() -> Result<()> {
    let app = AppDocument {
        protection: "blocklist = \"monitor\"",
        ..HTTP
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _http = origin::http(&lab.origin, port::HTTP)?;
        scene.site.run("block", &[ATTACKER.to_string()])?;
        get(&lab.attacker, None, (EDGE, port::HTTP).into())?;
        let filter = scene.filter("http.lab")?;
        ensure!(filter.monitored("blocked") > 0, "{filter:?}");
        ensure!(filter.reasons().is_empty(), "{filter:?}");
        Ok(())
    })
}

/// Sends frames while a client is served; all frames, and nothing else, are dropped for `reason`.
fn attack_beside_a_client(scene: &Scene<'_>, frames: Vec<Vec<u8>>, reason: &str) -> Result<()> {
    const COUNT: u64 = 2000;
    let lab = scene.lab;
    let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
    let client = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
    client::echo_datagram(&client, b"before")?;
    flood(scene, frames, COUNT)?;
    client::echo_datagram(&client, b"after")?;
    scene.wait_for("all frames to be dropped", |status| {
        let filter = &status.app("echo.lab")?.filter;
        ensure!(filter.dropped(reason) == COUNT, "{filter:?}");
        ensure!(filter.reasons() == [reason], "{filter:?}");
        Ok(())
    })?;
    let sessions = scene.site.status()?.app("echo.lab")?.proxy()?.total;
    ensure!(
        sessions == 1,
        "{sessions} sessions: a dropped packet reached the proxy"
    );
    Ok(())
}

/// Slow enough that no packet is lost on the way.
fn flood(scene: &Scene<'_>, frames: Vec<Vec<u8>>, count: u64) -> Result<()> {
    let flood = Flood {
        frames,
        per_second: 2000,
        count,
    };
    flood.run(&scene.lab.attacker).map(drop)
}

fn a_closed_port_is_silent() -> Result<()> {
    shielded(&[HTTP], |scene| {
        let lab = scene.lab;
        for (edge, _) in ways() {
            ensure_silent(&lab.attacker, None, (edge, 9).into())?;
            let socket = client::udp(&lab.attacker, None, (edge, 9).into())?;
            socket.set_read_timeout(Some(SILENCE))?;
            socket.send(b"anybody?")?;
            let error = socket.recv(&mut [0]).err().context("somebody answered")?;
            // The kernel would report an ICMP error as `ConnectionRefused`.
            ensure!(error.kind() == ErrorKind::WouldBlock, "{error}");
        }
        let status = scene.site.status()?;
        let host = &status.interface(FRONT)?.host;
        ensure!(host.dropped("closed_port") >= 4, "{host:?}");
        Ok(())
    })
}

fn malformed_packets_are_told_apart() -> Result<()> {
    const TIMES: u64 = 10;
    shielded(&[HTTP], |scene| {
        let path = scene.lab.attack_path();
        let edge = (EDGE, port::HTTP).into();
        let bad = packet::malformed(path, (ATTACKER, 40_000).into(), edge)?;
        let groups = [
            ("malformed", bad.malformed),
            ("tcp_flags", bad.tcp_flags),
            ("martian", bad.martian),
        ];
        let mut expected = BTreeMap::new();
        for (reason, frames) in groups {
            let count = frames.len() as u64 * TIMES;
            flood(&scene, frames, count)?;
            expected.insert(reason, count);
        }
        scene.wait_for(
            "every packet to be counted once, under its reason",
            |status| {
                let filter = status.filter();
                for (reason, count) in &expected {
                    let dropped = filter.dropped(reason);
                    ensure!(
                        dropped == *count,
                        "{reason}: {dropped} of {count}: {filter:?}"
                    );
                }
                Ok(())
            },
        )
    })
}

fn why_tells_the_truth() -> Result<()> {
    let app = AppDocument {
        protection: &format!("allow = [\"{CLIENT}\"]"),
        ..HTTP
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _http = origin::http(&lab.origin, port::HTTP)?;
        let why = |source: IpAddr| -> Result<(String, String)> {
            let json = scene
                .site
                .run("why", &[&source.to_string(), "-o", "json"])?;
            let why: serde_json::Value = serde_json::from_str(&json)?;
            let field = |name: &str| why["verdicts"][0][name].as_str().unwrap_or("").to_owned();
            Ok((field("verdict"), field("reason")))
        };
        let says = |verdict: &str, reason: &str| Ok((verdict.to_owned(), reason.to_owned()));
        let edge = (EDGE, port::HTTP).into();

        get(&lab.client, None, edge)?;
        ensure_eq(why(CLIENT.into()), says("pass", ""))?;
        ensure_silent(&lab.attacker, None, edge)?;
        ensure_eq(why(ATTACKER.into()), says("drop", "not_allowed"))?;
        scene
            .site
            .run("block", &[&format!("{CLIENT}/32"), "--for", "10m"])?;
        ensure_silent(&lab.client, None, edge)?;
        ensure_eq(why(CLIENT.into()), says("drop", "blocked"))?;
        let filter = scene.filter("http.lab")?;
        ensure!(filter.reasons() == ["blocked", "not_allowed"], "{filter:?}");
        Ok(())
    })
}

fn ensure_eq<T: PartialEq + std::fmt::Debug>(found: Result<T>, expected: Result<T>) -> Result<()> {
    let (found, expected) = (found?, expected?);
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// Edge address and attacker's own, of both families.
fn ways() -> [(IpAddr, IpAddr); 2] {
    [
        (EDGE.into(), ATTACKER.into()),
        (EDGE_V6.into(), ATTACKER_V6.into()),
    ]
}
