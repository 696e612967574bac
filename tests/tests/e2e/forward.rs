//! Datagrams that the filter carries past the proxy: nobody at either end, and nothing that is counted,
//! tells them from those that it does not.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, HostDocument, Site, output},
    origin::{self, port},
    topology::{
        BACK, ETH0, Host,
        address::{ATTACKER, EDGE, EDGE_V6, ORIGIN, ORIGIN_V6},
    },
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, noise, shielded_in, shielded_with};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "forward::every_byte_arrives_both_ways",
        needs: &["ip"],
        run: every_byte_arrives_both_ways,
    },
    Case {
        name: "forward::one_interface_is_enough",
        needs: &["ip"],
        run: one_interface_is_enough,
    },
    Case {
        name: "forward::the_books_are_those_of_the_proxy",
        needs: &["ip"],
        run: the_books_are_those_of_the_proxy,
    },
    Case {
        name: "forward::ipv6_where_the_host_allows_it",
        needs: &["ip"],
        run: ipv6_where_the_host_allows_it,
    },
    Case {
        name: "forward::datagrams_of_any_size_arrive",
        needs: &["ip"],
        run: datagrams_of_any_size_arrive,
    },
    Case {
        name: "forward::a_session_lives_as_long_as_its_traffic",
        needs: &["ip"],
        run: a_session_lives_as_long_as_its_traffic,
    },
    Case {
        name: "forward::a_reload_loses_nothing",
        needs: &["ip"],
        run: a_reload_loses_nothing,
    },
    Case {
        name: "forward::an_upgrade_takes_sessions_along",
        needs: &["ip"],
        run: an_upgrade_takes_sessions_along,
    },
    Case {
        name: "forward::another_origin_takes_over_from_one_that_is_gone",
        needs: &["ip"],
        run: another_origin_takes_over_from_one_that_is_gone,
    },
    Case {
        name: "forward::unfinished_checksums_go_through_the_proxy",
        needs: &["ip"],
        run: unfinished_checksums_go_through_the_proxy,
    },
    Case {
        name: "forward::an_origin_that_xdp_cannot_reach_is_served_by_the_proxy",
        needs: &["ip"],
        run: an_origin_that_xdp_cannot_reach_is_served_by_the_proxy,
    },
    Case {
        name: "forward::what_cannot_be_is_refused_where_it_is_demanded",
        needs: &["ip"],
        run: what_cannot_be_is_refused_where_it_is_demanded,
    },
    Case {
        name: "forward::a_killed_daemon_carries_nothing_to_strangers",
        needs: &["ip"],
        run: a_killed_daemon_carries_nothing_to_strangers,
    },
    Case {
        name: "forward::a_stop_leaves_the_host_as_it_was",
        needs: &["ip"],
        run: a_stop_leaves_the_host_as_it_was,
    },
    Case {
        name: "forward::iperf3_measures_no_loss",
        needs: &["ip", "iperf3"],
        run: iperf3_measures_no_loss,
    },
];

const APP: &str = "echo.lab";

fn echo_app() -> AppDocument<'static> {
    AppDocument::udp(APP, port::ECHO)
}

/// In a lab in which datagrams can be carried.
fn played(apps: &[AppDocument<'_>], play: impl FnOnce(Scene<'_>) -> Result<()>) -> Result<()> {
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    shielded_in(&lab, HostDocument::default(), apps, play)
}

fn client(scene: &Scene<'_>) -> Result<UdpSocket> {
    client::udp(&scene.lab.client, None, (EDGE, port::ECHO).into())
}

/// Asks and is answered, until the filter carries both ways.
fn become_known(site: &Site<'_>, socket: &UdpSocket) -> Result<()> {
    let before = site.status()?.datagrams("carried");
    wait::until("datagrams to be carried", PATIENCE, || {
        for _ in 0..10 {
            client::echo_datagram(socket, b"hello")?;
        }
        let status = site.status()?;
        let carried = status.datagrams("carried");
        ensure!(carried >= before + 20, "{carried} of {before}: {status:?}");
        Ok(())
    })
}

fn carried(scene: &Scene<'_>) -> Result<u64> {
    Ok(scene.site.status()?.datagrams("carried"))
}

fn every_byte_arrives_both_ways() -> Result<()> {
    played(&[echo_app()], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        let before = carried(&scene)?;
        let bytes = noise(1472);
        for length in 0..=1472 {
            client::echo_datagram(&socket, &bytes[..length])?;
        }
        let after = carried(&scene)?;
        // A checksum looks unfinished in one of 65,536.
        ensure!(after - before >= 2 * 1473 - 4, "{before} {after}");
        let path = scene.site.status()?.app(APP)?.data_path.clone();
        let path = path.context("no data path")?;
        ensure!(path.path == "kernel" && path.why.is_none(), "{path:?}");
        let why = scene.site.run("why", &["203.0.113.10"])?;
        ensure!(why.contains("past the proxy"), "{why}");
        Ok(())
    })
}

/// Origin and clients lie behind the same, shielded interface.
fn one_interface_is_enough() -> Result<()> {
    let app = AppDocument {
        origin: ATTACKER.into(),
        ..echo_app()
    };
    played(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.attacker, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        let before = carried(&scene)?;
        for length in 0..1000 {
            client::echo_datagram(&socket, &noise(length))?;
        }
        let after = carried(&scene)?;
        ensure!(after - before >= 2 * 1000 - 4, "{before} {after}");
        Ok(())
    })
}

/// What an exchange leaves behind: counters, and the events of its session without what differs by
/// nature.
#[derive(Debug, PartialEq, Eq)]
struct Books {
    sessions: u64,
    ingress: u64,
    egress: u64,
    passed: u64,
    events: Vec<serde_json::Value>,
}

fn the_books_are_those_of_the_proxy() -> Result<()> {
    let kernel = books("kernel")?;
    let proxy = books("proxy")?;
    ensure!(kernel == proxy, "{kernel:#?}\n{proxy:#?}");
    ensure!(kernel.ingress > 100_000, "{kernel:?}");
    ensure!(kernel.events.len() == 2, "{kernel:?}");
    Ok(())
}

fn books(path: &str) -> Result<Books> {
    let keys = format!("data_path = {path:?}");
    let app = AppDocument {
        keys: &keys,
        tables: "[timeouts]\nidle = \"3s\"\n",
        ..echo_app()
    };
    let mut books = None;
    played(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        let begun = Instant::now();
        // As many as there are, however long it takes until they are carried.
        for number in 0..500_usize {
            client::echo_datagram(&socket, &noise(number))?;
            let due = Duration::from_millis(number as u64 * 10);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        let is_carried = carried(&scene)? > 0;
        ensure!(
            is_carried == (path == "kernel"),
            "{:?}",
            scene.site.status()
        );
        scene.wait_for("the session to end", |status| {
            ensure!(status.proxy().active == 0, "{:?}", status.proxy());
            Ok(())
        })?;
        let events = wait::until("both events", PATIENCE, || {
            let events = events(&scene)?;
            ensure!(events.len() == 2, "{events:?}");
            Ok(events)
        })?;
        let status = scene.site.status()?;
        let proxy = status.app(APP)?.proxy()?;
        books = Some(Books {
            sessions: proxy.total,
            ingress: proxy.ingress_bytes,
            egress: proxy.egress_bytes,
            passed: status.app(APP)?.filter.passed.packets,
            events,
        });
        Ok(())
    })?;
    books.context("no books")
}

fn events(scene: &Scene<'_>) -> Result<Vec<serde_json::Value>> {
    let text = fs::read_to_string(scene.site.events())?;
    let events = text.lines().map(|line| {
        let mut event: serde_json::Value = serde_json::from_str(line)?;
        let fields = event.as_object_mut().context("no object")?;
        fields.retain(|name, value| {
            let is_moment = name.contains("Timestamp") && !value.is_null();
            !is_moment && name != "ClientPort" && name != "ColoCode"
        });
        anyhow::Ok(event)
    });
    events.collect()
}

fn ipv6_where_the_host_allows_it() -> Result<()> {
    let app = AppDocument {
        origin: ORIGIN_V6.into(),
        ..echo_app()
    };
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let edge = SocketAddr::from((EDGE_V6, port::ECHO));
        let socket = client::udp(&lab.client, None, edge)?;
        wait::until("the reason to be known", PATIENCE, || {
            client::echo_datagram(&socket, b"hello")?;
            let path = scene.site.status()?.app(APP)?.data_path.clone();
            let why = path.and_then(|path| path.why).unwrap_or_default();
            ensure!(why.contains("net.ipv6.conf.lo.forwarding"), "{why}");
            Ok(())
        })?;
        let namespace = &lab.edge.namespace;
        namespace.set_sysctl("ipv6/conf/lo/forwarding", "1")?;
        become_known(&scene.site, &socket)?;
        for length in 0..1452 {
            client::echo_datagram(&socket, &noise(length))?;
        }
        Ok(())
    })
}

fn datagrams_of_any_size_arrive() -> Result<()> {
    let app = AppDocument {
        protection: "fragments = \"off\"",
        ..echo_app()
    };
    played(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        // The filter cannot carry fragments; the session's socket gets them.
        for length in [1473, 8000, 1472, 1, 30_000] {
            client::echo_datagram(&socket, &noise(length))
                .with_context(|| format!("{length} bytes"))?;
        }
        // Nor what is too big for the way to the origin alone.
        let narrow = |host: &Host, interface| {
            let line = format!("link set {interface} mtu 1300\n");
            host.namespace.ip(&line)
        };
        narrow(&scene.lab.edge, BACK)?;
        narrow(&scene.lab.origin, ETH0)?;
        for length in [1200, 1272, 1273, 1400] {
            client::echo_datagram(&socket, &noise(length))
                .with_context(|| format!("{length} bytes over a narrow link"))?;
        }
        let status = scene.site.status()?;
        ensure!(status.datagrams("too_big") > 0, "{status:?}");
        ensure!(status.proxy().total == 1, "a second session: {status:?}");
        Ok(())
    })
}

fn a_session_lives_as_long_as_its_traffic() -> Result<()> {
    let app = AppDocument {
        tables: "[timeouts]\nidle = \"2s\"\n",
        ..echo_app()
    };
    played(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        // Twice as long as it would live if only the proxy were asked.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            client::echo_datagram(&socket, b"still here")?;
            thread::sleep(Duration::from_millis(100));
        }
        let proxy = scene.site.status()?.proxy();
        ensure!((proxy.total, proxy.active) == (1, 1), "{proxy:?}");
        let quiet = Instant::now();
        scene.wait_for("the session to expire", |status| {
            ensure!(status.proxy().active == 0, "{:?}", status.proxy());
            Ok(())
        })?;
        ensure!(quiet.elapsed() > Duration::from_millis(1500), "too early");
        // What is over is not carried, and begins anew.
        let before = carried(&scene)?;
        client::echo_datagram(&socket, b"again")?;
        ensure!(carried(&scene)? == before, "carried to a port that is free");
        ensure!(scene.site.status()?.proxy().total == 2);
        Ok(())
    })
}

fn a_reload_loses_nothing() -> Result<()> {
    played(&[echo_app()], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        let other = AppDocument::tcp("other.lab", port::HTTP);
        for round in 0..3 {
            scene.site.write_app(&AppDocument {
                keys: ["", "proxy_protocol = \"v1\"", ""][round],
                ..other
            })?;
            for _ in 0..200 {
                client::echo_datagram(&socket, &noise(100 + round))?;
                thread::sleep(Duration::from_millis(2));
            }
        }
        // Not even if it has to go through the proxy from now on, or no more.
        for path in ["proxy", "kernel"] {
            let keys = format!("data_path = {path:?}");
            scene.site.write_app(&AppDocument {
                keys: &keys,
                ..echo_app()
            })?;
            scene.wait_for("the new data path", |status| {
                client::echo_datagram(&socket, &noise(200))?;
                let found = status.app(APP)?.data_path.clone();
                ensure!(
                    found.as_ref().is_some_and(|found| found.path == path),
                    "{found:?}"
                );
                Ok(())
            })?;
        }
        let proxy = scene.site.status()?.app(APP)?.proxy()?.clone();
        ensure!(proxy.total == 1, "a second session: {proxy:?}");
        Ok(())
    })
}

/// Sessions are carried by the old daemon, pass through the proxies, and are carried by the new one.
fn an_upgrade_takes_sessions_along() -> Result<()> {
    played(&[echo_app()], |scene| {
        let Scene {
            lab, site, daemon, ..
        } = scene;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
        become_known(&site, &socket)?;
        let is_over = AtomicBool::new(false);
        let new = thread::scope(|scope| {
            let playing = scope.spawn(|| {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    client::echo_datagram(&socket, &noise(100))?;
                    sent += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                anyhow::Ok(sent)
            });
            let new = site.start_with(|command| {
                command.arg("--upgrade");
            });
            is_over.store(true, Ordering::Relaxed);
            let sent: u64 = playing.join().unwrap()?;
            ensure!(sent > 10, "{sent} datagrams");
            new
        })?;
        drop(daemon);
        become_known(&site, &socket)?;
        let proxy = site.status()?.proxy();
        ensure!(proxy.active == 1, "{proxy:?}");
        drop(new);
        Ok(())
    })
}

fn another_origin_takes_over_from_one_that_is_gone() -> Result<()> {
    const SECOND: u16 = 77;
    let second = format!("udp://{ORIGIN}:{SECOND}");
    let document = echo_app().to_string();
    let first = format!("\"udp://{ORIGIN}:{}\"", port::ECHO);
    let document = document.replace(&first, &format!("{first}, {second:?}"))
        + &format!("[origins]\nbackup = [{second:?}]\n");
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    shielded_with(
        &lab,
        HostDocument::default(),
        &[(APP, &document)],
        |scene| {
            let lab = scene.lab;
            let first = origin::udp_echo(&lab.origin, port::ECHO)?;
            let _second = origin::udp_named(&lab.origin, SECOND, "second")?;
            let socket = client(&scene)?;
            become_known(&scene.site, &socket)?;
            drop(first);
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            let mut answer = [0; 64];
            wait::until("the second origin", PATIENCE, || {
                socket.send(b"anyone?")?;
                let length = socket.recv(&mut answer).context("no answer")?;
                ensure!(&answer[..length] == b"second", "{:?}", &answer[..length]);
                Ok(())
            })
        },
    )
}

fn unfinished_checksums_go_through_the_proxy() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    lab.leave_checksums_to_others()?;
    shielded_in(&lab, HostDocument::default(), &[echo_app()], |scene| {
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        scene.wait_for("unfinished datagrams to be seen", |status| {
            client::echo_datagram(&socket, &noise(700))?;
            ensure!(status.datagrams("unfinished") > 0, "{status:?}");
            Ok(())
        })?;
        for length in 0..1472 {
            client::echo_datagram(&socket, &noise(length))?;
        }
        let status = scene.site.status()?;
        let text = scene.site.run("status", &[] as &[&str])?;
        ensure!(text.contains("unfinished"), "{text}");
        ensure!(status.datagrams("unfinished") >= 2 * 1472, "{status:?}");
        Ok(())
    })
}

fn an_origin_that_xdp_cannot_reach_is_served_by_the_proxy() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    lab.lose_what_is_carried();
    shielded_in(&lab, HostDocument::default(), &[echo_app()], |scene| {
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        scene.wait_for("the reason to be known", |status| {
            client::echo_datagram(&socket, b"hello")?;
            let found = status.app(APP)?.data_path.clone();
            let why = found.and_then(|found| found.why).unwrap_or_default();
            ensure!(why.contains("back: XDP cannot send there"), "{why}");
            Ok(())
        })?;
        scene.wait_for("questions to be left to the proxy", |status| {
            client::echo_datagram(&socket, b"hello")?;
            ensure!(status.datagrams("no_port") > 0, "{status:?}");
            Ok(())
        })
    })
}

fn what_cannot_be_is_refused_where_it_is_demanded() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    lab.lose_what_is_carried();
    let site = Site::new(&lab, HostDocument::default())?;
    let demanding = AppDocument {
        keys: "data_path = \"kernel\"",
        ..echo_app()
    };
    site.write_app(&demanding)?;
    let refused = site.attempt("run", &[] as &[&str])?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "{complaint}");
    for said in [APP, "data_path", "back: XDP cannot send there", "auto"] {
        ensure!(complaint.contains(said), "no {said:?} in: {complaint}");
    }
    // Nothing is left of the attempt.
    ensure!(site.status().is_err(), "something is pinned");
    ensure!(read_sysctl(&lab)? == "0", "a sysctl is left");

    // A daemon that runs goes on as it was.
    site.write_app(&echo_app())?;
    let daemon = site.start()?;
    site.write_app(&demanding)?;
    daemon.wait_for_log("nothing changed")?;
    daemon.wait_for_log("back: XDP cannot send there")?;
    let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
    let socket = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
    client::echo_datagram(&socket, b"hello")
}

fn a_killed_daemon_carries_nothing_to_strangers() -> Result<()> {
    played(&[echo_app()], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        let known = socket.local_addr()?;
        scene.daemon.kill()?;
        let next = scene.site.start()?;
        // Whoever had a session has another by now, and the old flows lead nowhere.
        client::echo_datagram(&socket, b"again")?;
        ensure!(socket.local_addr()? == known);
        let status = scene.site.status()?;
        ensure!(status.proxy().total == 1, "{status:?}");
        become_known(&scene.site, &socket)?;
        next.kill()?;
        // Without a daemon it ends by itself.
        let sent = || -> Result<u64> {
            let before = scene.site.status()?.datagrams("carried");
            socket.send(b"anyone?")?;
            Ok(scene.site.status()?.datagrams("carried") - before)
        };
        wait::until("the last of it", PATIENCE, || {
            ensure!(sent()? == 0, "still carried");
            Ok(())
        })
    })
}

fn read_sysctl(lab: &Lab) -> Result<String> {
    let path = "/proc/sys/net/ipv4/conf/lo/forwarding";
    let value = lab.edge.namespace.run(|| fs::read_to_string(path))??;
    Ok(value.trim().to_owned())
}

fn a_stop_leaves_the_host_as_it_was() -> Result<()> {
    played(&[echo_app()], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client(&scene)?;
        become_known(&scene.site, &socket)?;
        let show = || -> Result<String> {
            let mut ip = Command::new("ip");
            let shown = output(&lab.edge, ip.args(["link", "show", "dev", BACK]))?;
            Ok(String::from_utf8(shown.stdout)?)
        };
        ensure!(show()?.contains("prog/xdp"), "{}", show()?);
        ensure!(read_sysctl(lab)? == "1");
        scene.daemon.stop()?;
        ensure!(!show()?.contains("prog/xdp"), "{}", show()?);
        ensure!(read_sysctl(lab)? == "0");
        Ok(())
    })
}

fn iperf3_measures_no_loss() -> Result<()> {
    let open = "amplification = { mode = \"off\" }\nceiling = { mode = \"off\" }";
    let datagrams = AppDocument {
        protection: open,
        ..AppDocument::udp("iperf-udp.lab", port::IPERF)
    };
    let apps = [AppDocument::tcp("iperf.lab", port::IPERF), datagrams];
    let mut lab = Lab::new()?;
    lab.behave_as_wires()?;
    let _iperf = origin::iperf(&lab)?;
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        for direction in [&[][..], &["--reverse"]] {
            let mut iperf = Command::new("iperf3");
            iperf.args(["--json", "--udp", "--bitrate", "20M", "--length", "1200"]);
            iperf
                .args(["--time", "5", "--client", &EDGE.to_string()])
                .args(direction);
            let output = output(&lab.client, &mut iperf)?;
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            ensure!(output.status.success(), "iperf3: {}", report["error"]);
            let sum = &report["end"]["sum"];
            let (packets, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
            ensure!(packets >= Some(5_000), "{sum}");
            ensure!(lost <= Some(50), "{sum}");
        }
        let status = scene.site.status()?;
        ensure!(status.datagrams("carried") > 5_000, "{status:?}");
        Ok(())
    })
}
