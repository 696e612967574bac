//! What happens to a daemon in years, within a minute: thousands of reloads, deaths under attack, and
//! clocks that jump. Nothing legitimate is lost, and nothing piles up.

use std::{
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client::{self, Probe},
    daemon::{AppDocument, HostDocument, Site},
    origin::{self, port},
    peers::usage,
    topology::{
        FRONT,
        address::{ATTACKER, EDGE},
    },
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, Watch, ensure_silent, get, shielded, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "endurance::10000_reloads_lose_no_client_and_leak_nothing",
        needs: &[],
        run: reloads_lose_no_client_and_leak_nothing,
    },
    Case {
        name: "endurance::a_daemon_killed_again_and_again_under_flood_is_no_gap",
        needs: &["nft"],
        run: a_daemon_killed_again_and_again_under_flood_is_no_gap,
    },
    Case {
        name: "endurance::a_clock_that_jumps_moves_no_expiry",
        needs: &["faketime"],
        run: a_clock_that_jumps_moves_no_expiry,
    },
];

const ECHO: AppDocument<'_> = AppDocument::tcp("echo.lab", port::ECHO);
const GAME: AppDocument<'_> = AppDocument::udp("game.lab", port::ECHO);
const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);

const RELOADS: usize = 10_000;

fn reloads_lose_no_client_and_leak_nothing() -> Result<()> {
    shielded(&[ECHO, GAME, HTTP], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let _game = origin::udp_echo(&lab.origin, port::ECHO)?;
        let _http = origin::http(&lab.origin, port::HTTP)?;
        let edge = |port| (EDGE, port).into();
        let session = client::connect(&lab.client, None, edge(port::ECHO), PATIENCE)?;
        let player = client::udp(&lab.client, None, edge(port::ECHO))?;
        let visitors = {
            let host = lab.client.clone();
            let visit = move || get(&host, None, edge(port::HTTP)).map(drop);
            Probe::start("visitor", Duration::from_millis(20), visit)?
        };

        let mut reloads = Reloads::new(&scene)?;
        // What grows only once has grown by then.
        for number in 0..RELOADS / 10 {
            reloads.run(number)?;
        }
        let footprint = || Footprint::of(scene.daemon.pid(), &lab.pin_dir().join(FRONT));
        let before = footprint()?;
        for number in 0..RELOADS {
            reloads.run(number)?;
            if number % 100 == 0 {
                client::echo_bytes(&session, b"still here").context("an open session")?;
                client::echo_datagram(&player, b"still here").context("a player")?;
            }
        }
        let served = visitors.stop();
        ensure!(
            served.attempts == served.successes && served.attempts > 100,
            "{served:?}"
        );
        wait::until("the daemon to be as it was", PATIENCE, || {
            footprint()?.ensure_like(&before)
        })
    })
}

/// Reloads, each of which changes something: a rate, and with every tenth the lists.
struct Reloads<'scene> {
    scene: &'scene Scene<'scene>,
    log: fs::File,
    read: u64,
}

impl<'scene> Reloads<'scene> {
    fn new(scene: &'scene Scene<'scene>) -> Result<Self> {
        let log = fs::File::open(scene.lab.dir().join("spectrum.log"))?;
        let read = log.metadata()?.len();
        Ok(Self { scene, log, read })
    }

    fn run(&mut self, number: usize) -> Result<()> {
        let lists = ["", "block = [\"198.51.100.0/24\", \"192.0.2.7\"]"][number / 10 % 2];
        let rate = 1000 + number % 2;
        let protection = &format!("{lists}\nsyn_rate = {{ per_second = {rate} }}");
        self.scene
            .site
            .write_app(&AppDocument { protection, ..HTTP })?;
        self.scene.daemon.signal(Signal::SIGHUP)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let news = self.news()?;
            ensure!(!news.contains("ERROR"), "reload {number}: {news}");
            if news.contains("reloaded: ") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "reload {number} does not end");
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// What the log has got since the last look.
    fn news(&mut self) -> Result<String> {
        let length = self.log.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length - self.read)?];
        self.log.read_exact_at(&mut bytes, self.read)?;
        self.read = length;
        Ok(String::from_utf8(bytes)?)
    }
}

/// What a leak would make grow.
#[derive(Debug)]
struct Footprint {
    open_files: u64,
    threads: usize,
    memory: u64,
    mappings: usize,
    pins: usize,
}

impl Footprint {
    fn of(daemon: Pid, pins: &Path) -> Result<Self> {
        Ok(Self {
            open_files: usage::open_files(daemon)?,
            threads: fs::read_dir(format!("/proc/{daemon}/task"))?.count(),
            // Not what files share: that is less while another test runs the same program.
            memory: usage::anonymous_memory(daemon)?,
            mappings: usage::mappings(daemon)?,
            pins: fs::read_dir(pins)?.count(),
        })
    }

    /// Visitors come and go, and allocators keep some of what they got: that much may differ.
    fn ensure_like(&self, before: &Self) -> Result<()> {
        const FILES: u64 = 20;
        const MEMORY: u64 = 4 << 20;
        const MAPPINGS: usize = 20;
        ensure!(
            self.open_files <= before.open_files + FILES
                && self.threads == before.threads
                && self.memory <= before.memory + MEMORY
                && self.mappings <= before.mappings + MAPPINGS
                && self.pins == before.pins,
            "{before:?} has become {self:?}"
        );
        Ok(())
    }
}

/// The filter goes on while nobody is there, and so does all that needs no proxy. Connections through
/// the proxy end with it, at once, and the next ones are served as soon as there is one again.
fn a_daemon_killed_again_and_again_under_flood_is_no_gap() -> Result<()> {
    const ROUNDS: usize = 8;
    const OWN_SERVICE: u16 = 2222;
    const BLOCKED: &str = "198.51.100.0/24";
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let _own = origin::tcp_echo(&lab.edge, OWN_SERVICE)?;
    let protection = &format!("block = [{BLOCKED:?}]");
    let host = HostDocument {
        protection,
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[HTTP, ECHO], |scene| {
        let Scene {
            site, mut daemon, ..
        } = scene;
        let edge = |port| (EDGE, port).into();
        let watch = Watch::start(&lab, BLOCKED)?;
        let sources = [[198, 51, 100, 1], [192, 0, 2, 1]].map(Ipv4Addr::from);
        let floods = sources.map(|first| {
            let sources = attack::sources(first, 254);
            let flood = Flood {
                frames: attack::syns(lab.attack_path(), sources, edge(port::HTTP))?,
                per_second: 4000,
                count: u64::MAX,
            };
            flood.start(&lab.attacker)
        });
        let administrator = client::connect(&lab.client, None, edge(OWN_SERVICE), PATIENCE)?;
        let pins = || Ok::<_, anyhow::Error>(fs::read_dir(lab.pin_dir().join(FRONT))?.count());
        let pinned = pins()?;
        let mut counted = (0, 0);
        let mut count = |when: &str| -> Result<()> {
            let filter = site.status()?.app("http.lab")?.filter.clone();
            let now = (filter.passed.packets, filter.dropped("blocked"));
            ensure!(
                now.0 >= counted.0 && now.1 >= counted.1,
                "{when}: {counted:?} became {now:?}"
            );
            counted = now;
            Ok(())
        };
        for round in 0..ROUNDS {
            let session = client::connect(&lab.client, None, edge(port::ECHO), PATIENCE)?;
            client::echo_bytes(&session, b"hello")?;
            get(&lab.client, None, edge(port::HTTP)).with_context(|| format!("round {round}"))?;
            count("before")?;

            daemon.kill()?;
            ensure_ends(&session).context("a connection through a dead proxy")?;
            client::echo_bytes(&administrator, b"still here").context("the host's own service")?;
            client::connect(&lab.client, None, edge(OWN_SERVICE), PATIENCE)
                .context("a new connection to it")?;
            let blocked =
                || -> Result<u64> { Ok(site.status()?.app("http.lab")?.filter.dropped("blocked")) };
            let before = blocked()?;
            wait::until("the filter to go on without a daemon", PATIENCE, || {
                let now = blocked()?;
                ensure!(now > before, "{now} blocked, as before");
                Ok(())
            })?;
            count("without a daemon")?;

            daemon = site.start().context("the next daemon")?;
            count("with the next daemon")?;
        }
        get(&lab.client, None, edge(port::HTTP)).context("at the end")?;
        for flood in floods {
            flood?.stop()?;
        }
        let leaked = watch.packets()?;
        ensure!(leaked == 0, "{leaked} packets of blocked sources came in");
        ensure!(pins()? == pinned, "{} pins were {pinned}", pins()?);
        Ok(())
    })
}

/// The peer of a connection has gone, and its kernel says so.
fn ensure_ends(mut session: &TcpStream) -> Result<()> {
    session.set_read_timeout(Some(PATIENCE))?;
    match session.read(&mut [0; 16]) {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => bail!("it does not end: {other:?}"),
    }
}

fn a_clock_that_jumps_moves_no_expiry() -> Result<()> {
    const DAY: i64 = 86_400;
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let site = Site::new(&lab, HostDocument::default())?;
    [ECHO, HTTP]
        .iter()
        .try_for_each(|app| site.write_app(app))?;
    let clock = Clock::new(&lab)?;
    let _daemon = site.start_with(|command| clock.rule(command))?;
    let edge = |port| (EDGE, port).into();
    let session = client::connect(&lab.client, None, edge(port::ECHO), PATIENCE)?;
    let attacker = ATTACKER.to_string();
    for jump in [2 * DAY, -5 * DAY] {
        let block = ["block", &attacker, "--for", "4s"];
        let blocked = Instant::now();
        site.run(block[0], &block[1..])?;
        clock.jump_to(jump)?;
        ensure_silent(&lab.attacker, None, edge(port::HTTP)).context("still blocked")?;
        client::echo_bytes(&session, b"no hour has passed").context("an open session")?;
        get(&lab.client, None, edge(port::HTTP)).context("a new client")?;
        wait::until("the block to expire", PATIENCE, || {
            get(&lab.attacker, None, edge(port::HTTP)).map(drop)
        })?;
        let lasted = blocked.elapsed();
        ensure!(lasted >= Duration::from_secs(3), "it held for {lasted:?}");
        wait::until("an event with the clock's time", PATIENCE, || {
            let off = seconds_off(&site)?;
            ensure!((off - jump).abs() < 60, "the last one is off by {off} s");
            Ok(())
        })?;
    }
    Ok(())
}

/// How far the time of the last connection event is from the true time.
fn seconds_off(site: &Site<'_>) -> Result<i64> {
    let events = fs::read_to_string(site.events())?;
    let last = events.lines().last().context("no event")?;
    let event: serde_json::Value = serde_json::from_str(last)?;
    let stamp = event["Timestamp"].as_str().context("no Timestamp")?;
    let stamp: jiff::Timestamp = stamp.parse()?;
    Ok(stamp.as_second() - jiff::Timestamp::now().as_second())
}

/// Where Debian has it; the loader fills in the architecture's directory.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// The wall clock as a process sees it, and nobody else: libfaketime(1).
struct Clock {
    offset: PathBuf,
}

impl Clock {
    fn new(lab: &Lab) -> Result<Self> {
        let clock = Self {
            offset: lab.dir().join("clock"),
        };
        clock.jump_to(0)?;
        Ok(clock)
    }

    /// Moves the clock to so many seconds from the true time.
    fn jump_to(&self, seconds: i64) -> Result<()> {
        let draft = self.offset.with_extension("draft");
        fs::write(&draft, format!("{seconds:+}\n"))?;
        Ok(fs::rename(draft, &self.offset)?)
    }

    fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            // Only the clock on the wall is ever set.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
