//! Another daemon takes the place of the one that runs, and no client notices.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, HostDocument},
    origin::{self, port},
    topology::address::EDGE,
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, get, shielded_in, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "upgrade::no_client_is_refused_or_cut",
        needs: &[],
        run: no_client_is_refused_or_cut,
    },
    Case {
        name: "upgrade::a_program_that_cannot_start_changes_nothing",
        needs: &[],
        run: a_program_that_cannot_start_changes_nothing,
    },
    Case {
        name: "upgrade::a_daemon_that_dies_before_it_has_taken_over_changes_nothing",
        needs: &[],
        run: a_daemon_that_dies_before_it_has_taken_over_changes_nothing,
    },
    Case {
        name: "upgrade::the_command_starts_what_is_installed",
        needs: &[],
        run: the_command_starts_what_is_installed,
    },
];

// All clients here share one address.
const STREAMS: AppDocument<'_> = AppDocument {
    protection: "packet_rate = { per_second = 1_000_000 }\nsyn_rate = { per_second = 10_000 }",
    ..AppDocument::tcp("streams.lab", port::ECHO)
};
const DATAGRAMS: AppDocument<'_> = AppDocument {
    protection: "packet_rate = { per_second = 1_000_000 }\nceiling = { mode = \"off\" }",
    ..AppDocument::udp("datagrams.lab", port::ECHO)
};
const PLAYERS: usize = 20;
const NONE: [&str; 0] = [];

fn edge() -> SocketAddr {
    (EDGE, port::ECHO).into()
}

/// A lab with both apps and their origins.
fn play(drain: &str, scene: impl FnOnce(Scene<'_>) -> Result<()>) -> Result<()> {
    let lab = Lab::new()?;
    let _streams = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let _datagrams = origin::udp_echo(&lab.origin, port::ECHO)?;
    let host = HostDocument {
        drain,
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[STREAMS, DATAGRAMS], scene)
}

/// Clients of both apps in the midst of what they do.
struct Clients {
    stream: TcpStream,
    players: Vec<UdpSocket>,
}

impl Clients {
    fn join(lab: &Lab) -> Result<Self> {
        let clients = Self {
            stream: client::connect(&lab.client, None, edge(), PATIENCE)?,
            players: (0..PLAYERS)
                .map(|_| client::udp(&lab.client, None, edge()))
                .collect::<Result<_>>()?,
        };
        clients.go_on("before")?;
        Ok(clients)
    }

    /// Every byte and every datagram comes back.
    fn go_on(&self, when: &'static str) -> Result<()> {
        client::echo_bytes(&self.stream, when.as_bytes()).context(when)?;
        let mut players = self.players.iter();
        players.try_for_each(|player| client::echo_datagram(player, when.as_bytes()).context(when))
    }
}

fn no_client_is_refused_or_cut() -> Result<()> {
    play("30s", |scene| {
        let Scene {
            lab,
            site,
            daemon: mut old,
        } = scene;
        let clients = Clients::join(lab)?;
        let (stop, newcomers) = (&AtomicBool::new(false), &AtomicU32::new(0));
        let mut new = thread::scope(|scope| {
            let connecting = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let stream = client::connect(&lab.client, None, edge(), PATIENCE)?;
                    client::echo_bytes(&stream, b"hello")?;
                    newcomers.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                }
                anyhow::Ok(())
            });
            let playing = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    clients.go_on("meanwhile")?;
                }
                anyhow::Ok(())
            });
            let new = site.start_with(|command| {
                command.arg("--upgrade");
            });
            let seen = newcomers.load(Ordering::Relaxed);
            let more = wait::until("clients of the new daemon", PATIENCE, || {
                ensure!(newcomers.load(Ordering::Relaxed) > seen + 50);
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
                thread
                    .join()
                    .unwrap_or_else(|_| anyhow::bail!("a client panicked"))
            };
            join(connecting).context("a newcomer")?;
            join(playing).context("a client from before")?;
            more?;
            new
        })?;
        clients.go_on("afterwards")?;

        let status = site.status()?;
        let sessions = status.app(DATAGRAMS.name)?.proxy()?.clone();
        ensure!(sessions.active == PLAYERS as u64, "{sessions:?}");
        ensure!(sessions.total == PLAYERS as u64, "{sessions:?}");
        let events = std::fs::read_to_string(site.events())?;
        let of_players = events
            .lines()
            .filter(|line| line.contains("\"udp\""))
            .count();
        ensure!(
            of_players == PLAYERS,
            "a session was more than begun:\n{events}"
        );

        // The old daemon is there for this connection alone.
        old.ensure_running()?;
        drop(clients.stream);
        let status = old
            .wait()
            .context("the old daemon's last connection is gone")?;
        ensure!(status.success(), "{status}");
        for player in &clients.players {
            client::echo_datagram(player, b"later").context("the old daemon is gone")?;
        }
        let late = client::connect(&lab.client, None, edge(), PATIENCE)?;
        client::echo_bytes(&late, b"later")?;
        drop(late);
        new.signal(Signal::SIGTERM)?;
        // The players stay: cut them.
        new.signal(Signal::SIGINT)?;
        let status = new.wait()?;
        ensure!(status.success(), "{status}");
        let events = std::fs::read_to_string(site.events())?;
        let ended = events
            .lines()
            .filter(|line| line.contains("\"udp\"") && line.contains("\"disconnect\""))
            .count();
        ensure!(ended == PLAYERS, "{ended} sessions have an end:\n{events}");
        Ok(())
    })
}

fn a_program_that_cannot_start_changes_nothing() -> Result<()> {
    play("30s", |scene| {
        let site = &scene.site;
        let clients = Clients::join(scene.lab)?;
        let valid = std::fs::read_to_string(site.app(STREAMS.name))?;
        site.write_document(STREAMS.name, &valid.replace("tcp/", "tpc/"))?;
        let output = site.attempt("upgrade", &NONE)?;
        let complaint = String::from_utf8(output.stderr)?;
        ensure!(!output.status.success(), "it claims to have upgraded");
        ensure!(complaint.contains("streams.lab.toml:"), "{complaint}");

        // A document that is right, and an address that somebody else has.
        let mut squatter = None;
        scene.lab.edge.namespace.run(|| {
            squatter = std::net::TcpListener::bind((EDGE, port::HTTP)).ok();
        })?;
        ensure!(squatter.is_some(), "no squatter");
        let taken = valid.replace(
            &format!("tcp/{}", port::ECHO),
            &format!("tcp/{}", port::HTTP),
        );
        site.write_document(STREAMS.name, &taken)?;
        let output = site.attempt("upgrade", &NONE)?;
        let complaint = String::from_utf8(output.stderr)?;
        ensure!(!output.status.success(), "it claims to have upgraded");
        ensure!(complaint.contains("nothing has changed"), "{complaint}");
        scene.daemon.wait_for_log("cannot listen on")?;

        ensure!(site.status()?.daemon == Some(scene.daemon.pid().as_raw()));
        clients.go_on("afterwards")?;
        site.write_document(STREAMS.name, &valid)?;
        drop(squatter);
        let late = client::connect(&scene.lab.client, None, edge(), PATIENCE)?;
        client::echo_bytes(&late, b"later")
    })
}

fn a_daemon_that_dies_before_it_has_taken_over_changes_nothing() -> Result<()> {
    play("30s", |mut scene| {
        let clients = Clients::join(scene.lab)?;
        let mut successor = UnixStream::connect(scene.site.control_socket())?;
        successor.write_all(b"{\"command\":\"succeed\"}\n")?;
        scene.daemon.wait_for_log("is to take over")?;
        drop(successor);
        scene
            .daemon
            .wait_for_log("no other daemon has taken over")?;
        scene.daemon.ensure_running()?;
        clients.go_on("afterwards")?;
        // The main loop goes on, too.
        let _http = origin::http(&scene.lab.origin, port::HTTP)?;
        scene
            .site
            .write_app(&AppDocument::tcp("http.lab", port::HTTP))?;
        wait::until("another app", PATIENCE, || {
            get(&scene.lab.client, None, (EDGE, port::HTTP).into()).map(drop)
        })
    })
}

fn the_command_starts_what_is_installed() -> Result<()> {
    play("1s", |scene| {
        let Scene {
            lab,
            site,
            daemon: mut old,
        } = scene;
        let clients = Clients::join(lab)?;
        site.run("upgrade", &NONE)?;
        let pid = site.status()?.daemon.context("no daemon runs")?;
        ensure!(pid != old.pid().as_raw(), "the daemon is the old one");
        clients.go_on("afterwards")?;
        drop(clients);
        let status = old.wait()?;
        ensure!(status.success(), "{status}");

        // It is nobody's child here, so that it is this test's to end.
        let new = Pid::from_raw(pid);
        kill(new, Signal::SIGTERM)?;
        wait_for(&site, "the new daemon to end", |status| {
            ensure!(status.daemon.is_none());
            Ok(())
        })
    })
}
