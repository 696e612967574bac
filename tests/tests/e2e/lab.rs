//! The lab itself: what every other case rests on.

use std::{
    env, fs,
    net::IpAddr,
    panic,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client::{self, Http},
    interrupt, leftovers,
    origin::{self, port},
    topology::{
        FRONT,
        address::{EDGE, EDGE_BACK, EDGE_V6, ORIGIN},
    },
    wait,
};

use crate::harness::{Case, PATIENCE};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "lab::hosts_reach_each_other",
        needs: &["ip"],
        run: hosts_reach_each_other,
    },
    Case {
        name: "lab::origins_serve",
        needs: &["nginx", "sshd", "ssh-keygen", "redis-server", "iperf3"],
        run: origins_serve,
    },
    Case {
        name: "lab::attackers_keep_rate_and_count",
        needs: &["ip"],
        run: attackers_keep_rate_and_count,
    },
    Case {
        name: "lab::a_panic_leaves_nothing",
        needs: &["ip"],
        run: a_panic_leaves_nothing,
    },
    Case {
        name: "lab::ctrl_c_leaves_nothing",
        needs: &["ip"],
        run: ctrl_c_leaves_nothing,
    },
    Case {
        name: "lab::the_next_lab_removes_what_a_killed_one_left",
        needs: &["ip"],
        run: the_next_lab_removes_what_a_killed_one_left,
    },
];

fn hosts_reach_each_other() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.edge, port::HTTP)?;
    let _tcp = origin::tcp_echo(&lab.edge, port::ECHO)?;
    let _udp = origin::udp_echo(&lab.edge, port::ECHO)?;
    for host in [&lab.client, &lab.attacker] {
        for edge in [IpAddr::from(EDGE), EDGE_V6.into()] {
            let connect = |port| client::connect(host, None, (edge, port).into(), PATIENCE);
            let page = Http::new(connect(port::HTTP)?).get("/")?;
            ensure!(page == b"served\n", "{page:?}");
            client::echo_bytes(&connect(port::ECHO)?, b"hello")?;
            let socket = client::udp(host, None, (edge, port::ECHO).into())?;
            client::echo_datagram(&socket, b"hello")?;
        }
    }
    let _back = origin::http(&lab.origin, port::HTTP)?;
    client::connect(&lab.edge, None, (ORIGIN, port::HTTP).into(), PATIENCE)?;
    Ok(())
}

fn origins_serve() -> Result<()> {
    let lab = Lab::new()?;
    let connect = |port| client::connect(&lab.edge, None, (ORIGIN, port).into(), PATIENCE);
    fs::write(lab.dir().join("index.html"), "served\n")?;
    let _nginx = origin::nginx(&lab, lab.dir())?;
    ensure!(Http::new(connect(port::HTTP)?).get("/")? == b"served\n");
    let seen = Http::new(connect(port::HTTP)?).get("/address")?;
    ensure!(seen == format!("{EDGE_BACK}\n").as_bytes(), "{seen:?}");
    let _ssh = origin::ssh(&lab)?;
    client::ssh_banner(&connect(port::SSH)?)?;
    let _redis = origin::redis(&lab)?;
    let _iperf = origin::iperf(&lab)?;
    Ok(())
}

fn attackers_keep_rate_and_count() -> Result<()> {
    const PER_SECOND: u32 = 20_000;
    const COUNT: u64 = 10_000;
    let lab = Lab::new()?;
    let received = || lab.edge.received(FRONT);
    let before = received()?;
    let sources = attack::sources([198, 51, 100, 1].into(), 254);
    let frames = attack::syns(lab.attack_path(), sources, (EDGE, 9).into())?;
    let begun = Instant::now();
    let flood = Flood {
        frames,
        per_second: PER_SECOND,
        count: COUNT,
    };
    let sent = flood.run(&lab.attacker)?;
    // Never faster than asked: at 20,000/s, 10,000 packets take half a second.
    ensure!(
        begun.elapsed() >= Duration::from_millis(450),
        "{:?}",
        begun.elapsed()
    );
    ensure!(sent == COUNT, "sent {sent}");
    wait::until("the flood to arrive", PATIENCE, || {
        let arrived = received()? - before;
        ensure!(arrived >= COUNT * 99 / 100, "{arrived} of {COUNT} arrived");
        Ok(())
    })
}

fn a_panic_leaves_nothing() -> Result<()> {
    let result = panic::catch_unwind(|| {
        let lab = Lab::new().unwrap();
        let name = lab.edge.namespace.name().to_owned();
        let mut sleeper = Command::new("sleep");
        let mut child = lab.edge.namespace.spawn(sleeper.arg("600")).unwrap();
        // The lab kills what its maker has forgotten.
        thread::spawn(move || child.wait());
        // Unwinds without a report, which would look like a failure.
        panic::resume_unwind(Box::new((name, lab.dir().to_owned())));
    });
    let payload = result.err().context("it did not panic")?;
    let (name, directory) = *payload.downcast::<(String, std::path::PathBuf)>().unwrap();
    ensure!(
        !Path::new("/run/netns").join(&name).exists(),
        "{name} is left"
    );
    ensure!(!directory.exists(), "{} is left", directory.display());
    Ok(())
}

fn ctrl_c_leaves_nothing() -> Result<()> {
    let mut victim = Victim::start()?;
    victim.signal(Signal::SIGINT)?;
    let status = victim.child.wait()?;
    ensure!(status.code() == Some(130), "{status}");
    let left = victim.leftovers();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn the_next_lab_removes_what_a_killed_one_left() -> Result<()> {
    let mut victim = Victim::start()?;
    victim.signal(Signal::SIGKILL)?;
    victim.child.wait()?;
    ensure!(
        !victim.leftovers().is_empty(),
        "a killed process cannot clean up"
    );
    leftovers::sweep_dead();
    let left = victim.leftovers();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Tells this program to be a victim.
const VICTIM: &str = "SPECTRUM_LAB_VICTIM";

/// As a victim: makes a lab, and waits for its end.
pub(crate) fn play_victim() -> Option<ExitCode> {
    env::var_os(VICTIM)?;
    let _watch = interrupt::watch(0).unwrap();
    let lab = Lab::new().unwrap();
    let mut sleeper = Command::new("sleep");
    let mut child = lab.edge.namespace.spawn(sleeper.arg("600")).unwrap();
    fs::write(lab.dir().join("ready"), "").unwrap();
    child.wait().unwrap();
    Some(ExitCode::FAILURE)
}

/// This program again, with a lab.
struct Victim {
    child: Child,
}

impl Victim {
    fn start() -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .env(VICTIM, "1")
            .stdin(Stdio::null())
            .spawn()?;
        let victim = Self { child };
        wait::until("the victim's lab", PATIENCE, || {
            let is_ready = |path: &std::path::PathBuf| path.join("ready").exists();
            let ready = victim.leftovers().iter().any(is_ready);
            ensure!(ready, "there is only {:?}", victim.leftovers());
            Ok(())
        })?;
        Ok(victim)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Namespaces and directories of the victim.
    fn leftovers(&self) -> Vec<std::path::PathBuf> {
        let prefix = format!("spectrum-{}-", self.child.id());
        let directories = [Path::new("/run/netns"), &env::temp_dir()].map(fs::read_dir);
        let entries = directories.into_iter().flatten().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let is_victims = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(&prefix)
        };
        paths.filter(is_victims).collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
