//! The limits of the proxy, as clients and operators meet them.

use std::{
    collections::VecDeque,
    fs,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, HostDocument, output, status::Proxy},
    origin::{self, port},
    topology::address::EDGE,
    wait,
};

use crate::{
    harness::{Case, PATIENCE, SILENCE, Scene, noise, shielded, shielded_in},
    tls,
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "limits::a_rush_is_refused_by_name_and_who_is_inside_stays",
        needs: &[],
        run: a_rush_is_refused_by_name_and_who_is_inside_stays,
    },
    Case {
        name: "limits::iperf3_gets_the_bandwidth_of_the_app_and_each_flow_its_share",
        needs: &["iperf3"],
        run: iperf3_gets_the_bandwidth_of_the_app_and_each_flow_its_share,
    },
    Case {
        name: "limits::a_download_over_tls_takes_its_time_and_arrives_whole",
        needs: &["curl", "nginx", "openssl"],
        run: a_download_over_tls_takes_its_time_and_arrives_whole,
    },
    Case {
        name: "limits::a_download_that_lasts_too_long_is_cut_and_does_not_look_complete",
        needs: &["curl", "nginx"],
        run: a_download_that_lasts_too_long_is_cut_and_does_not_look_complete,
    },
    Case {
        name: "limits::an_origin_gets_what_it_bears_and_nobody_is_lost",
        needs: &["redis-server", "redis-benchmark", "redis-cli"],
        run: an_origin_gets_what_it_bears_and_nobody_is_lost,
    },
    Case {
        name: "limits::who_waits_is_served_in_turn_or_told_that_it_was_in_vain",
        needs: &[],
        run: who_waits_is_served_in_turn_or_told_that_it_was_in_vain,
    },
    Case {
        name: "limits::a_flood_of_datagrams_leaves_the_origin_what_it_bears",
        needs: &[],
        run: a_flood_of_datagrams_leaves_the_origin_what_it_bears,
    },
];

const APP: &str = "echo.lab";

fn app(tables: &str) -> AppDocument<'_> {
    AppDocument {
        tables,
        ..AppDocument::tcp(APP, port::ECHO)
    }
}

fn connect(scene: &Scene<'_>) -> Result<TcpStream> {
    let edge = (EDGE, port::ECHO).into();
    Ok(client::connect(&scene.lab.client, None, edge, PATIENCE)?)
}

fn a_rush_is_refused_by_name_and_who_is_inside_stays() -> Result<()> {
    let slowly = "[limits]\nnew_connections_per_second = { per_source = 1, per_source_burst = 5 }";
    shielded(&[app(slowly)], |scene| {
        let _echo = origin::tcp_echo(&scene.lab.origin, port::ECHO)?;
        let inside = connect(&scene)?;
        client::echo_bytes(&inside, b"first")?;
        let began = Instant::now();
        let came = 40;
        let served = (0..came)
            .filter(|_| {
                let rush = connect(&scene);
                rush.is_ok_and(|stream| client::echo_bytes(&stream, b"rush").is_ok())
            })
            .count() as u64;
        // One of the burst is inside.
        let most = 4 + began.elapsed().as_secs() + 1;
        ensure!((4..=most).contains(&served), "{served} were served");
        let refused = refused(&scene, "new_connections_per_source")?;
        ensure!(
            refused == came - served,
            "{refused} refused, {served} served"
        );
        wait_for_event(&scene, "new_connections_per_source")?;

        scene
            .site
            .write_app(&app("[limits]\nconnections_per_prefix = 2"))?;
        wait::until("the new limits", PATIENCE, || {
            let second = connect(&scene)?;
            client::echo_bytes(&second, b"second")?;
            let third = connect(&scene).is_ok_and(|third| client::echo_bytes(&third, b"x").is_ok());
            ensure!(!third, "a third of the same network was served");
            let refused = self::refused(&scene, "connections_per_prefix")?;
            ensure!(refused > 0, "something else has refused it");
            Ok(())
        })?;
        wait_for_event(&scene, "connections_per_prefix")?;
        client::echo_bytes(&inside, b"still here")
    })
}

/// What may pass at this rate, in bytes: a quarter of a second's worth at once.
fn most(rate: u64, time: Duration) -> u64 {
    rate / 4 + rate / 1000 * (time.as_secs() * 1000 + u64::from(time.subsec_millis()) + 1)
}

fn iperf3_gets_the_bandwidth_of_the_app_and_each_flow_its_share() -> Result<()> {
    const UP: u64 = 5_000_000;
    const DOWN: u64 = 20_000_000;
    let lab = Lab::new()?;
    let _iperf = origin::iperf(&lab)?;
    let tables = format!("[limits.bandwidth]\napp = {{ up = {UP}, down = {DOWN} }}\n");
    let app = AppDocument {
        tables: &tables,
        ..AppDocument::tcp("iperf.lab", port::IPERF)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |_| {
        for (rate, direction) in [(UP, &[][..]), (DOWN, &["--reverse"])] {
            let mut iperf = Command::new("iperf3");
            iperf.args(["--json", "--parallel", "4", "--time", "3", "--client"]);
            iperf.arg(EDGE.to_string()).args(direction);
            let began = Instant::now();
            let output = output(&lab.client, &mut iperf)?;
            let time = began.elapsed();
            let report: Value = serde_json::from_slice(&output.stdout)?;
            ensure!(output.status.success(), "iperf3: {}", report["error"]);
            let received = |flow: &Value| flow["bytes"].as_u64().context("no bytes");
            let bytes = received(&report["end"]["sum_received"])?;
            ensure!(bytes <= most(rate, time), "{bytes} bytes in {time:?}");
            ensure!(bytes >= rate * 3 / 2, "only {bytes} bytes in {time:?}");
            let flows = report["end"]["streams"].as_array().context("no flows")?;
            for flow in flows {
                let flow = received(&flow["receiver"])?;
                ensure!(flow >= bytes / 16, "one of four got {flow} of {bytes}");
            }
        }
        Ok(())
    })
}

fn a_download_over_tls_takes_its_time_and_arrives_whole() -> Result<()> {
    const RATE: u64 = 2_000_000;
    let lab = Lab::new()?;
    let authority = tls::authority(&lab)?;
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    let large = noise(4_000_000);
    fs::write(root.join("large"), &large)?;
    let _nginx = origin::nginx_tls(&lab, &root, &authority.sign("origin.internal")?)?;
    let tables = format!(
        "{}[limits.bandwidth]\nper_connection = {{ down = {RATE} }}\n",
        tls::client_tls(&[&authority.sign(tls::NAME)?])
    );
    let app = AppDocument {
        keys: "tls = \"full\"",
        tables: &tables,
        ..AppDocument::tcp(tls::NAME, port::HTTPS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |_| {
        let got = lab.dir().join("got");
        let began = Instant::now();
        let curl = tls::curl(&lab, &authority, &["--output", &got.display().to_string()])?;
        let time = began.elapsed();
        let complaint = String::from_utf8_lossy(&curl.stderr);
        ensure!(curl.status.success(), "curl: {complaint}");
        ensure!(fs::read(&got)? == large, "it arrived changed");
        ensure!(most(RATE, time) >= large.len() as u64, "only {time:?}");
        ensure!(time < PATIENCE, "{time:?}");
        Ok(())
    })
}

fn a_download_that_lasts_too_long_is_cut_and_does_not_look_complete() -> Result<()> {
    let lab = Lab::new()?;
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    fs::write(root.join("large"), noise(60_000_000))?;
    let _nginx = origin::nginx(&lab, &root)?;
    let app = AppDocument {
        tables: "[timeouts]\nmax_duration = \"1s\"",
        ..AppDocument::tcp(APP, port::HTTP)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let mut curl = Command::new("curl");
        // Six seconds, of which what is in buffers at the end takes less than one.
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--limit-rate",
            "10M",
        ]);
        curl.args(["--output", "/dev/null"]);
        curl.arg(format!("http://{EDGE}/large"));
        let began = Instant::now();
        let ended = output(&lab.client, &mut curl)?;
        let time = began.elapsed();
        ensure!(
            time >= Duration::from_secs(1) && time < PATIENCE,
            "{time:?}"
        );
        let said = String::from_utf8_lossy(&ended.stderr);
        // Failure in receiving network data.
        ensure!(ended.status.code() == Some(56), "{}: {said}", ended.status);
        wait_for_event(&scene, "max_duration")
    })
}

/// 300 clients at once of a server that bears ten. Redis refuses those above its own bound, and counts
/// them. That is a little higher: it learns of an end some time after the edge does.
fn an_origin_gets_what_it_bears_and_nobody_is_lost() -> Result<()> {
    let lab = Lab::new()?;
    let _redis = origin::redis(&lab)?;
    let redis = |arguments: &[&str]| -> Result<String> {
        let mut cli = Command::new("redis-cli");
        let answer = output(&lab.origin, cli.args(arguments))?;
        Ok(String::from_utf8(answer.stdout)?)
    };
    redis(&["config", "set", "maxclients", "40"])?;
    let app = AppDocument {
        tables: "[origins]\nmax_connections = 10\n\
                 [limits]\nqueue = { length = 300, timeout = \"60s\" }\n",
        // All share an address. And no cookies: a handshake that overtakes its own end on another CPU
        // begins a connection then of which nobody knows, until the kernel asks whether it is there.
        protection: "syn_rate = { mode = \"off\" }\npacket_rate = { mode = \"off\" }\n\
                     syn_challenge = { when = \"never\" }",
        ..AppDocument::tcp(APP, port::REDIS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let mut benchmark = Command::new("redis-benchmark");
        // A new connection for each request.
        benchmark.args(["-h", &EDGE.to_string(), "-k", "0", "-t", "ping_mbulk"]);
        benchmark.args(["-c", "300", "-n", "3000", "--csv"]);
        let benchmark = output(&lab.client, &mut benchmark)?;
        let said = String::from_utf8_lossy(&benchmark.stderr);
        ensure!(benchmark.status.success(), "redis-benchmark: {said}");
        let statistics = redis(&["info", "stats"])?;
        let is_spared = statistics.contains("rejected_connections:0\r");
        ensure!(is_spared, "it got more than it bears:\n{statistics}");
        scene.wait_for("everybody to be gone", |status| {
            let proxy = status.app(APP)?.proxy()?;
            let filter = &status.app(APP)?.filter;
            ensure!(
                proxy.active == 0 && proxy.waiting == 0,
                "{proxy:?}; {filter:?}"
            );
            let places = &proxy.origins.first().context("no origin")?.active;
            ensure!(*places == 0, "{places} places are lost");
            ensure!(proxy.queued > 0, "nobody had to wait");
            ensure!(
                proxy.refusals.values().all(|&count| count == 0),
                "{proxy:?}"
            );
            ensure!(proxy.total >= 3000, "{proxy:?}");
            Ok(())
        })
    })
}

fn who_waits_is_served_in_turn_or_told_that_it_was_in_vain() -> Result<()> {
    let tables =
        "[origins]\nmax_connections = 1\n[limits]\nqueue = { length = 3, timeout = \"3s\" }\n";
    shielded(&[app(tables)], |scene| {
        let _echo = origin::tcp_echo(&scene.lab.origin, port::ECHO)?;
        let mut waiting = VecDeque::from([connect(&scene)?]);
        client::echo_bytes(waiting.front().context("nobody")?, b"inside")?;
        for count in 1..=3 {
            waiting.push_back(connect(&scene)?);
            scene.wait_for("one more to wait", |status| {
                let proxy = status.app(APP)?.proxy()?;
                ensure!(proxy.waiting == count, "{proxy:?}");
                Ok(())
            })?;
        }
        let fourth = connect(&scene);
        let is_served = fourth.is_ok_and(|fourth| client::echo_bytes(&fourth, b"x").is_ok());
        ensure!(!is_served, "the queue has no end");
        wait_for_event(&scene, "queue")?;

        // One goes, and the next in turn comes in; the one behind it still waits.
        drop(waiting.pop_front());
        client::echo_bytes(waiting.front().context("nobody")?, b"second")?;
        let last = waiting.pop_back().context("nobody")?;
        last.set_read_timeout(Some(PATIENCE))?;
        let end = client::echo_bytes(&last, b"last");
        ensure!(end.is_err(), "the last was served beside the second");
        wait_for_event(&scene, "queue_timeout")
    })
}

fn a_flood_of_datagrams_leaves_the_origin_what_it_bears() -> Result<()> {
    const RATE: u64 = 400_000;
    const SIZE: usize = 1_000;
    const COUNT: u64 = 3_000;
    /// The kernel keeps but a few while the proxy does something else.
    const PART: u64 = 50;
    let tables = format!("[limits.bandwidth]\nper_source = {{ up = {RATE} }}\n");
    let app = AppDocument {
        tables: &tables,
        ..AppDocument::udp(APP, port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let flood = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
        let began = Instant::now();
        let mut proxy = Proxy::default();
        for sent in (1..=COUNT / PART).map(|parts| parts * PART) {
            for _ in 0..PART {
                flood.send(&[7; SIZE])?;
            }
            proxy = wait::until("the flood to arrive", PATIENCE, || {
                let proxy = scene.site.status()?.proxy();
                let all = sent * SIZE as u64;
                ensure!(proxy.ingress_bytes == all, "{proxy:?}");
                Ok(proxy)
            })?;
        }
        let time = began.elapsed();
        let passed = (COUNT - proxy.bandwidth_dropped) * SIZE as u64;
        ensure!(passed <= most(RATE, time), "{passed} bytes in {time:?}");
        ensure!(
            passed >= RATE / 4 - SIZE as u64,
            "only {passed} bytes in {time:?}"
        );
        // What has passed is answered; then there is room again.
        flood.set_read_timeout(Some(SILENCE))?;
        let mut answers = 0;
        while flood.recv(&mut [0; SIZE]).is_ok() {
            answers += SIZE as u64;
        }
        ensure!(
            answers > 0 && answers <= passed,
            "{answers} of {passed} came back"
        );
        client::echo_datagram(&flood, &[8; SIZE])
    })
}

/// How many a limit has refused.
fn refused(scene: &Scene<'_>, limit: &str) -> Result<u64> {
    let status = scene.site.status()?;
    let refusals = &status.app(APP)?.proxy()?.refusals;
    Ok(refusals.get(limit).copied().unwrap_or_default())
}

/// The log of events names the limit.
fn wait_for_event(scene: &Scene<'_>, limit: &str) -> Result<()> {
    wait::until("the event", PATIENCE, || {
        let events = fs::read_to_string(scene.site.events())?;
        let named = format!("\"Reason\":\"{limit}\"");
        let event = events.lines().find(|line| line.contains(&named));
        let event = event.with_context(|| format!("no {named} in:\n{events}"))?;
        ensure!(event.contains("\"Status\":403"), "{event}");
        Ok(())
    })
}
