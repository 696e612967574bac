//! Real programs through the edge: what users run, and what they would notice.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab,
    client::{self, Http},
    daemon::{AppDocument, HostDocument, output},
    origin::{self, port},
    topology::address::{CLIENT, CLIENT_V6, EDGE, EDGE_V6, ORIGIN, ORIGIN_V6},
};

use crate::harness::{Case, PATIENCE, ensure_same, get, noise, shielded, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "programs::sftp_moves_50_mb_both_ways_intact",
        needs: &["sshd", "ssh-keygen", "sftp"],
        run: sftp_moves_50_mb_both_ways_intact,
    },
    Case {
        name: "programs::nginx_serves_many_requests_and_20_mb_intact",
        needs: &["nginx"],
        run: nginx_serves_many_requests_and_20_mb_intact,
    },
    Case {
        name: "programs::redis_answers_a_pipeline",
        needs: &["redis-server"],
        run: redis_answers_a_pipeline,
    },
    Case {
        name: "programs::iperf3_moves_data_in_both_directions",
        needs: &["iperf3"],
        run: iperf3_moves_data_in_both_directions,
    },
    Case {
        name: "programs::udp_keeps_1000_clients_apart",
        needs: &[],
        run: udp_keeps_1000_clients_apart,
    },
    Case {
        name: "programs::ipv6_clients_reach_ipv4_and_ipv6_origins",
        needs: &[],
        run: ipv6_clients_reach_ipv4_and_ipv6_origins,
    },
    Case {
        name: "programs::nginx_learns_the_client_by_proxy_v2",
        needs: &["nginx"],
        run: nginx_learns_the_client_by_proxy_v2,
    },
    Case {
        name: "programs::a_closed_half_does_not_close_the_other",
        needs: &[],
        run: a_closed_half_does_not_close_the_other,
    },
];

fn sftp_moves_50_mb_both_ways_intact() -> Result<()> {
    let lab = Lab::new()?;
    let ssh = origin::ssh(&lab)?;
    let apps = [AppDocument::tcp("ssh.lab", port::SSH)];
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        let file = |name| lab.dir().join(name);
        let (original, uploaded, back) = (file("original"), file("uploaded"), file("back"));
        fs::write(&original, noise(50_000_000))?;
        let [from, to, again] = [&original, &uploaded, &back].map(|path| path.display());
        let batch = format!("put {from} {to}\nget {to} {again}\n");
        fs::write(file("batch"), batch)?;
        let mut sftp = Command::new("sftp");
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"] {
            sftp.args(["-o", option]);
        }
        sftp.args(["-o", "IdentitiesOnly=yes", "-i"])
            .arg(&ssh.identity);
        sftp.arg("-b")
            .arg(file("batch"))
            .arg(format!("root@{EDGE}"));
        let output = output(&lab.client, &mut sftp)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "sftp: {complaint}\n{}",
            ssh.server.output()
        );
        ensure_same(&original, &uploaded)?;
        ensure_same(&original, &back)?;
        scene.wait_for("the bytes of both directions to be counted", |status| {
            let proxy = status.app("ssh.lab")?.proxy()?;
            let counted = proxy.ingress_bytes.min(proxy.egress_bytes);
            ensure!(counted >= 50_000_000, "{proxy:?}");
            Ok(())
        })
    })
}

fn nginx_serves_many_requests_and_20_mb_intact() -> Result<()> {
    const CONNECTIONS: usize = 20;
    const REQUESTS: usize = 100;
    let lab = Lab::new()?;
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    fs::write(root.join("index.html"), "served\n")?;
    let large = noise(20_000_000);
    fs::write(root.join("large"), &large)?;
    let _nginx = origin::nginx(&lab, &root)?;
    let apps = [AppDocument::tcp("http.lab", port::HTTP)];
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        let edge = (EDGE, port::HTTP).into();
        let request = || -> Result<()> {
            let mut http = Http::new(client::connect(&lab.client, None, edge, PATIENCE)?);
            for _ in 0..REQUESTS {
                ensure!(http.get("/")? == b"served\n");
            }
            Ok(())
        };
        thread::scope(|scope| {
            let clients = [(); CONNECTIONS].map(|()| scope.spawn(request));
            clients
                .into_iter()
                .try_for_each(|client| client.join().unwrap())
        })?;
        let mut http = Http::new(client::connect(&lab.client, None, edge, PATIENCE)?);
        for _ in 0..3 {
            ensure!(http.get("/large")? == large, "20 MB arrived changed");
        }
        drop(http);
        scene.wait_for("every connection to be counted and closed", |status| {
            let proxy = status.app("http.lab")?.proxy()?;
            ensure!(proxy.total == CONNECTIONS as u64 + 1, "{proxy:?}");
            ensure!(proxy.active == 0, "{proxy:?}");
            Ok(())
        })
    })
}

fn redis_answers_a_pipeline() -> Result<()> {
    const KEYS: usize = 20_000;
    let lab = Lab::new()?;
    let _redis = origin::redis(&lab)?;
    let apps = [AppDocument::tcp("redis.lab", port::REDIS)];
    shielded_in(&lab, HostDocument::default(), &apps, |_| {
        let edge = (EDGE, port::REDIS).into();
        let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
        let set: String = (0..KEYS)
            .map(|key| format!("SET key:{key} value:{key}\r\n"))
            .collect();
        let get: String = (0..KEYS).map(|key| format!("GET key:{key}\r\n")).collect();
        let stored = pipeline(&stream, &set, KEYS)?;
        ensure!(
            stored.iter().all(|line| line == "+OK"),
            "not every SET was taken"
        );
        let found = pipeline(&stream, &get, KEYS * 2)?;
        for (key, lines) in found.chunks(2).enumerate() {
            let expected = format!("value:{key}");
            ensure!(lines[1] == expected, "GET key:{key} gave {lines:?}");
        }
        Ok(())
    })
}

/// Writes `commands` while it reads as many `lines`.
fn pipeline(stream: &TcpStream, commands: &str, lines: usize) -> Result<Vec<String>> {
    thread::scope(|scope| {
        let mut writer = stream;
        let writing = scope.spawn(move || writer.write_all(commands.as_bytes()));
        let answers = BufReader::new(stream).lines().take(lines);
        let answers = answers
            .collect::<Result<_, _>>()
            .context("reading answers")?;
        writing.join().unwrap()?;
        Ok(answers)
    })
}

fn iperf3_moves_data_in_both_directions() -> Result<()> {
    let lab = Lab::new()?;
    let _iperf = origin::iperf(&lab)?;
    let apps = [AppDocument::tcp("iperf.lab", port::IPERF)];
    shielded_in(&lab, HostDocument::default(), &apps, |_| {
        for direction in [&[][..], &["--reverse"]] {
            let mut iperf = Command::new("iperf3");
            iperf.args(["--json", "--parallel", "4", "--bytes", "2G", "--client"]);
            iperf.arg(EDGE.to_string()).args(direction);
            let output = output(&lab.client, &mut iperf)?;
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            ensure!(output.status.success(), "iperf3: {}", report["error"]);
            let received = report["end"]["sum_received"]["bytes"].as_u64();
            // iperf3 stops counting when the sender has handed over its last byte; what is in the
            // buffers of four streams then does not count, so the transfer is long beside it.
            ensure!(
                received >= Some(1_900_000_000),
                "received {received:?} of 2 GB"
            );
        }
        Ok(())
    })
}

fn udp_keeps_1000_clients_apart() -> Result<()> {
    const CLIENTS: usize = 1000;
    let app = AppDocument {
        tables: "[limits]\nconnections_per_source = 2000\n",
        // They come faster than newcomers may.
        protection: "ceiling = { mode = \"off\" }",
        ..AppDocument::udp("echo.lab", port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let socket = |_| client::udp(&lab.client, None, edge);
        let sockets = (0..CLIENTS).map(socket).collect::<Result<Vec<_>>>()?;
        for round in 0..3 {
            for (number, socket) in sockets.iter().enumerate() {
                socket.send(format!("{round} {number}").as_bytes())?;
                // As many at once as the buffers of a socket hold for certain.
                if number % 100 == 99 {
                    let batch = number - 99..=number;
                    batch
                        .clone()
                        .zip(&sockets[batch])
                        .try_for_each(|(number, socket)| {
                            let mut answer = [0; 64];
                            let length = socket.recv(&mut answer);
                            let length = length.with_context(|| format!("client {number}"))?;
                            let expected = format!("{round} {number}");
                            ensure!(answer[..length] == *expected.as_bytes(), "mixed up");
                            anyhow::Ok(())
                        })?;
                }
            }
        }
        let proxy = scene.site.status()?.app("echo.lab")?.proxy()?.clone();
        ensure!(proxy.active == CLIENTS as u64, "{proxy:?}");
        ensure!(
            proxy.total == CLIENTS as u64,
            "a client got two sessions: {proxy:?}"
        );
        Ok(())
    })
}

fn ipv6_clients_reach_ipv4_and_ipv6_origins() -> Result<()> {
    let to = |name, port: u16, origin: IpAddr| AppDocument {
        origin,
        ..AppDocument::tcp(name, port)
    };
    let apps = [
        to("four.lab", 8004, ORIGIN.into()),
        to("six.lab", 8006, ORIGIN_V6.into()),
        AppDocument {
            origin: ORIGIN_V6.into(),
            ..AppDocument::udp("echo.lab", port::ECHO)
        },
    ];
    shielded(&apps, |scene| {
        let lab = scene.lab;
        let _four = origin::http(&lab.origin, 8004)?;
        let _six = origin::http(&lab.origin, 8006)?;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        for edge in [IpAddr::from(EDGE), EDGE_V6.into()] {
            for port in [8004, 8006] {
                ensure!(get(&lab.client, None, (edge, port).into())? == b"served\n");
            }
            let socket = client::udp(&lab.client, None, (edge, port::ECHO).into())?;
            // More than a packet of the smallest MTU, less than one of this link.
            client::echo_datagram(&socket, &noise(1400))?;
        }
        Ok(())
    })
}

fn nginx_learns_the_client_by_proxy_v2() -> Result<()> {
    let lab = Lab::new()?;
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    let _nginx = origin::nginx(&lab, &root)?;
    let app = AppDocument {
        keys: "proxy_protocol = \"v2\"",
        ..AppDocument::tcp("http.lab", port::HTTP_PROXIED)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |_| {
        for (edge, client) in [
            (IpAddr::from(EDGE), IpAddr::from(CLIENT)),
            (EDGE_V6.into(), CLIENT_V6.into()),
        ] {
            let edge = SocketAddr::new(edge, port::HTTP_PROXIED);
            let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
            let local = stream.local_addr()?;
            let seen = String::from_utf8(Http::new(stream).get("/address")?)?;
            ensure!(local.ip() == client);
            let expected = format!("{} {}\n", local.ip(), local.port());
            ensure!(
                seen == expected,
                "nginx saw {seen:?}, the client is {expected:?}"
            );
        }
        Ok(())
    })
}

fn a_closed_half_does_not_close_the_other() -> Result<()> {
    shielded(&[AppDocument::tcp("echo.lab", port::ECHO)], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
        let sent = noise(1_000_000);
        let mut received = Vec::new();
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                (&stream).write_all(&sent)?;
                stream.shutdown(std::net::Shutdown::Write)
            });
            let mut reader = &stream;
            reader.read_to_end(&mut received)?;
            writing.join().unwrap()
        })?;
        ensure!(
            received == sent,
            "{} of {} bytes",
            received.len(),
            sent.len()
        );
        Ok(())
    })
}
