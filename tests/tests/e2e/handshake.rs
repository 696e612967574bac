//! TCP's handshake: floods of SYNs are answered, and clients notice nothing of it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    mem,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};
use spectrum_tests::{
    Lab,
    attack::{self, Flood, Running},
    client::{self, Http, Probe},
    daemon::{self, AppDocument, HostDocument},
    origin::{self, port},
    topology::address::{CLIENT, EDGE, EDGE_V6},
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, get, shielded, shielded_in, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "handshake::a_cookie_agrees_on_what_the_kernel_would",
        needs: &[],
        run: a_cookie_agrees_on_what_the_kernel_would,
    },
    Case {
        name: "handshake::a_veth_pair_is_trusted_with_answers_if_they_arrive",
        needs: &[],
        run: a_veth_pair_is_trusted_with_answers_if_they_arrive,
    },
    Case {
        name: "handshake::programs_connect_by_cookie",
        needs: &["curl", "python3", "ssh", "sshd", "ssh-keygen", "iperf3"],
        run: programs_connect_by_cookie,
    },
    Case {
        name: "handshake::a_syn_flood_is_answered_while_it_lasts",
        needs: &[],
        run: a_syn_flood_is_answered_while_it_lasts,
    },
    Case {
        name: "handshake::a_port_can_be_used_again_at_once",
        needs: &["nginx"],
        run: a_port_can_be_used_again_at_once,
    },
    Case {
        name: "handshake::a_killed_daemon_is_followed_under_the_flood",
        needs: &[],
        run: a_killed_daemon_is_followed_under_the_flood,
    },
    Case {
        name: "handshake::the_hosts_settings_come_back",
        needs: &[],
        run: the_hosts_settings_come_back,
    },
];

/// And no mitigation, which takes a transfer out of nothing for a flood.
const ALWAYS: &str =
    "syn_challenge = { when = \"always\" }\nmitigation = { sensitivity = \"off\" }";
const EVERY: Duration = Duration::from_millis(100);

fn guarded(name: &str, port: u16) -> AppDocument<'_> {
    AppDocument {
        protection: ALWAYS,
        ..AppDocument::tcp(name, port)
    }
}

/// What both ends agreed on, as the client sees it.
#[derive(Debug, PartialEq, Eq)]
struct Agreed {
    options: u8,
    window_scales: u8,
    sent_segment: u32,
    advertised_segment: u32,
}

fn agreed(stream: &TcpStream) -> Result<Agreed> {
    /// Timestamps, SACK, window scale, ECN; not what happened later.
    const NEGOTIATED: u8 = 0x0f;
    // SAFETY: the struct holds only integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = u32::try_from(size_of_val(&info))?;
    // SAFETY: the kernel writes at most `length` bytes to `info`.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "{}", io::Error::last_os_error());
    Ok(Agreed {
        options: info.tcpi_options & NEGOTIATED,
        window_scales: info.tcpi_snd_rcv_wscale,
        sent_segment: info.tcpi_snd_mss,
        advertised_segment: info.tcpi_advmss,
    })
}

fn a_cookie_agrees_on_what_the_kernel_would() -> Result<()> {
    let plain = AppDocument {
        protection: "syn_challenge = { when = \"never\" }",
        ..AppDocument::tcp("plain.lab", port::ECHO)
    };
    let guarded = guarded("http.lab", port::HTTP);
    shielded(&[plain, guarded], |scene| {
        let lab = scene.lab;
        let _origins = (
            origin::tcp_echo(&lab.origin, port::ECHO)?,
            origin::http(&lab.origin, port::HTTP)?,
        );
        for ecn in ["0", "1"] {
            for (timestamps, scaling) in [("1", "1"), ("1", "0"), ("0", "1")] {
                let client = &lab.client.namespace;
                client.set_sysctl("ipv4/tcp_ecn", ecn)?;
                client.set_sysctl("ipv4/tcp_timestamps", timestamps)?;
                client.set_sysctl("ipv4/tcp_window_scaling", scaling)?;
                for edge in [IpAddr::from(EDGE), EDGE_V6.into()] {
                    let connect =
                        |port| client::connect(&lab.client, None, (edge, port).into(), PATIENCE);
                    let by_cookie = connect(port::HTTP)?;
                    let found = agreed(&by_cookie)?;
                    ensure!(Http::new(by_cookie).get("/")? == b"served\n");
                    let expected = if timestamps == "1" {
                        agreed(&connect(port::ECHO)?)?
                    } else {
                        // No cookie has room for these, the kernel's own neither.
                        Agreed {
                            options: 0,
                            window_scales: 0,
                            ..agreed(&connect(port::ECHO)?)?
                        }
                    };
                    ensure!(found == expected, "{edge}: {found:?}, not {expected:?}");
                }
            }
        }
        let filter = scene.filter("http.lab")?;
        ensure!(filter.challenged.packets == 12, "{filter:?}");
        ensure!(scene.filter("plain.lab")?.challenged.packets == 0);
        ensure!(filter.reasons().is_empty(), "{filter:?}");
        Ok(())
    })
}

/// A container's interface loses every answer unless there is a program at the host's end, in
/// another namespace.
fn a_veth_pair_is_trusted_with_answers_if_they_arrive() -> Result<()> {
    let host = || HostDocument {
        syn_answers: "auto",
        ..HostDocument::default()
    };
    let always = AppDocument {
        protection: "syn_challenge = { when = \"always\" }",
        ..AppDocument::tcp("http.lab", port::HTTP)
    };
    for (arrive, log) in [
        (true, "SYN floods are answered by the filter"),
        (false, "SYN floods are left to the kernel's cookies"),
    ] {
        let mut lab = Lab::new()?;
        if !arrive {
            lab.lose_answers();
        }
        let _http = origin::http(&lab.origin, port::HTTP)?;
        shielded_in(&lab, host(), &[always], |scene| {
            scene.daemon.wait_for_log(log)?;
            get(&lab.client, None, (EDGE, port::HTTP).into())?;
            let answered = scene.site.status()?.app("http.lab")?.filter.challenged;
            ensure!((answered.packets > 0) == arrive, "{answered:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn programs_connect_by_cookie() -> Result<()> {
    let lab = Lab::new()?;
    let ssh = origin::ssh(&lab)?;
    let _iperf = origin::iperf(&lab)?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let apps = [
        guarded("ssh.lab", port::SSH),
        guarded("http.lab", port::HTTP),
        guarded("iperf.lab", port::IPERF),
    ];
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        let run = |program: &str, arguments: &[&str]| {
            let output = daemon::output(&lab.client, Command::new(program).args(arguments))?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{program}: {complaint}");
            Ok(output.stdout)
        };
        let identity = ssh.identity.display().to_string();
        for (edge, url) in [
            (EDGE.to_string(), format!("http://{EDGE}:{}/", port::HTTP)),
            (
                EDGE_V6.to_string(),
                format!("http://[{EDGE_V6}]:{}/", port::HTTP),
            ),
        ] {
            let page = run("curl", &["-sS", "-g", "--max-time", "10", &url])?;
            ensure!(page == b"served\n", "{page:?}");
            let script = format!(
                "import urllib.request as r; print(r.urlopen('{url}', timeout=10).read().decode())"
            );
            run("python3", &["-c", &script])?;
            let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"];
            let said = run(
                "ssh",
                &[
                    "-o",
                    options[0],
                    "-o",
                    options[1],
                    "-o",
                    "IdentitiesOnly=yes",
                    "-i",
                    &identity,
                    &format!("root@{edge}"),
                    "echo",
                    "reached",
                ],
            )?;
            ensure!(said == b"reached\n", "{said:?}");
            for direction in [&[][..], &["-R"]] {
                let port = port::IPERF.to_string();
                let common = ["-c", &edge, "-p", &port, "-n", "200M", "-P", "2"];
                run("iperf3", &[&common, direction].concat())?;
            }
        }
        for app in ["ssh.lab", "http.lab", "iperf.lab"] {
            let filter = scene.filter(app)?;
            ensure!(filter.challenged.packets >= 2, "{app}: {filter:?}");
            ensure!(filter.reasons().is_empty(), "{app}: {filter:?}");
        }
        Ok(())
    })
}

/// A flood of SYNs from sources that nobody counts.
fn syn_flood(lab: &Lab, count: u64) -> Result<Running> {
    let sources = attack::sources([198, 18, 0, 1].into(), 50_000);
    let flood = Flood {
        frames: attack::syns(lab.attack_path(), sources, (EDGE, port::HTTP).into())?,
        per_second: 20_000,
        count,
    };
    flood.start(&lab.attacker)
}

fn http_probe(scene: &Scene<'_>) -> Result<Probe> {
    let client = scene.lab.client.clone();
    Probe::start("http", EVERY, move || {
        get(&client, None, (EDGE, port::HTTP).into()).map(drop)
    })
}

fn a_syn_flood_is_answered_while_it_lasts() -> Result<()> {
    const SENT: u64 = 100_000;
    const ABOVE: u64 = 500;
    let app = AppDocument {
        protection: "syn_challenge = { when = \"auto\", above = 500 }",
        ..AppDocument::tcp("http.lab", port::HTTP)
    };
    shielded(&[app], |scene| {
        let _http = origin::http(&scene.lab.origin, port::HTTP)?;
        let probe = http_probe(&scene)?;
        scene.wait_for("clients to be served without a flood", |status| {
            let filter = &status.app("http.lab")?.filter;
            ensure!(filter.passed.packets > 20, "{filter:?}");
            ensure!(filter.challenged.packets == 0, "{filter:?}");
            ensure!(filter.challenged_since.is_none(), "{filter:?}");
            Ok(())
        })?;
        let flood = syn_flood(scene.lab, SENT)?;
        scene.wait_for("the flood to be answered", |status| {
            let filter = &status.app("http.lab")?.filter;
            ensure!(filter.challenged_since.is_some(), "{filter:?}");
            ensure!(filter.challenged.packets > 1000, "{filter:?}");
            Ok(())
        })?;
        let verdicts = scene.site.run("why", &[&CLIENT.to_string()])?;
        ensure!(verdicts.contains("SYN cookie"), "{verdicts}");
        let text = scene.site.run("status", &[""; 0])?;
        ensure!(
            text.contains("SYNs are answered with cookies since"),
            "{text}"
        );
        wait::until("the flood to be over", 3 * PATIENCE, || {
            ensure!(flood.sent() == SENT, "{} of {SENT}", flood.sent());
            Ok(())
        })?;
        flood.stop()?;
        let answered = wait::until("SYNs to go to the app again", 3 * PATIENCE, || {
            let filter = scene.filter("http.lab")?;
            ensure!(filter.challenged_since.is_none(), "{filter:?}");
            get(&scene.lab.client, None, (EDGE, port::HTTP).into())?;
            let after = scene.filter("http.lab")?;
            ensure!(
                filter.challenged == after.challenged,
                "{filter:?}, {after:?}"
            );
            Ok(after.challenged.packets)
        })?;
        let served = probe.stop();
        ensure!(
            served.attempts > 50 && served.successes == served.attempts,
            "{served:?}"
        );
        // What came before the threshold was reached, and what the way lost.
        ensure!(
            answered >= SENT * 9 / 10 - ABOVE,
            "{answered} of {SENT} answered"
        );
        let filter = scene.filter("http.lab")?;
        ensure!(filter.reasons().is_empty(), "{filter:?}");
        Ok(())
    })
}

/// The edge closes first, and remembers the connection for a minute.
fn a_port_can_be_used_again_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    fs::write(root.join("index.html"), "served\n")?;
    let _nginx = origin::nginx(&lab, &root)?;
    let apps = [guarded("http.lab", port::HTTP)];
    shielded_in(&lab, HostDocument::default(), &apps, |_scene| {
        for edge in [
            SocketAddr::from((EDGE, port::HTTP)),
            (EDGE_V6, port::HTTP).into(),
        ] {
            for _ in 0..10 {
                let page = lab.client.namespace.run(|| request_from_one_port(edge))??;
                ensure!(page.ends_with("served\n"), "{page}");
            }
        }
        Ok(())
    })
}

fn request_from_one_port(edge: SocketAddr) -> Result<String> {
    let any: IpAddr = if edge.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?;
    let connect = || -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(edge), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(any, 45_000).into())?;
        socket.connect_timeout(&edge.into(), PATIENCE)?;
        Ok(socket.into())
    };
    // The client's own kernel refuses for as long as the last ACK of the connection before is due.
    let connected = wait::until("the port", PATIENCE, || match connect() {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(error.into()),
        other => Ok(other),
    });
    let mut stream = connected?.context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .context("asking for the page")?;
    let mut page = String::new();
    stream
        .read_to_string(&mut page)
        .context("reading the page")?;
    Ok(page)
}

fn a_killed_daemon_is_followed_under_the_flood() -> Result<()> {
    shielded(&[guarded("http.lab", port::HTTP)], |scene| {
        let _http = origin::http(&scene.lab.origin, port::HTTP)?;
        let edge = (EDGE, port::HTTP).into();
        let flood = syn_flood(scene.lab, u64::MAX)?;
        get(&scene.lab.client, None, edge)?;
        let Scene { lab, site, daemon } = scene;
        daemon.kill()?;
        let _next = site.start()?;
        for _ in 0..20 {
            get(&lab.client, None, edge)?;
        }
        wait_for(&site, "the flood to be counted over both lives", |status| {
            let filter = &status.app("http.lab")?.filter;
            ensure!(filter.challenged.packets > 10_000, "{filter:?}");
            Ok(())
        })?;
        flood.stop().map(drop)
    })
}

fn the_hosts_settings_come_back() -> Result<()> {
    let lab = Lab::new()?;
    let values = || -> Result<Vec<String>> {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let both = || ["tcp_timestamps", "tcp_syncookies"].map(read);
        let texts = lab.edge.namespace.run(both)?.into_iter();
        texts.map(|text| Ok(text?.trim().to_owned())).collect()
    };
    lab.edge.namespace.set_sysctl("ipv4/tcp_syncookies", "0")?;
    let before = values()?;
    ensure!(before == ["1", "0"], "{before:?}");
    let apps = [guarded("http.lab", port::HTTP)];
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        let Scene { site, daemon, .. } = scene;
        // Cookies are 2 for the moments in which listeners are marked.
        wait::until("the settings of a daemon that serves", PATIENCE, || {
            let now = values()?;
            ensure!(now == ["2", "1"], "{now:?}");
            Ok(())
        })?;
        daemon.kill()?;
        ensure!(values()? == ["2", "1"], "{:?}", values()?);
        let next = site.start()?;
        ensure!(next.stop()?.success());
        ensure!(values()? == before, "{:?}", values()?);
        Ok(())
    })
}
