//! The program agrees with an independent reference: random frames under random policies, each
//! run through the kernel and judged a second time in plain Rust.
//!
//! `SPECTRUM_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod generator;
mod mitigations;
mod operator;
#[path = "../support/places.rs"]
mod places;
#[path = "../support/policy.rs"]
mod policy;
mod rates;
mod reference;

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, TcpListener, UdpSocket},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use spectrum_common::reason::Reason;
use spectrum_tests::requirements;
use spectrum_user::{
    config::{AppId, Config, Mode},
    dataplane::{Filter, Terms},
};

use generator::{ADDRESSES, CONNECTED, LISTENED, PLACES, Random, SERVICE};
use reference::{Outcome, Verdict};

/// Frames of each trial.
const FRAMES: usize = 24_000;
/// Policies in random modes, and frames under each.
const POLICIES: usize = 120;
const FRAMES_PER_POLICY: usize = 300;
const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        trial("agrees::with_every_rule_enforced", |random| {
            let mut seen = Seen::default();
            let config = generator::policy(Mode::Enforce);
            agree(&mut load(&config)?, &config, random, FRAMES, &mut seen)?;
            seen.ensure_every_reason_but_rates("dropped")
        }),
        trial("agrees::with_every_rule_monitored", |random| {
            let mut seen = Seen::default();
            let config = generator::policy(Mode::Monitor);
            agree(&mut load(&config)?, &config, random, FRAMES, &mut seen)?;
            seen.ensure_every_reason_but_rates("monitored")
        }),
        trial("agrees::with_rules_in_random_modes", |random| {
            let mut seen = Seen::default();
            for _ in 0..POLICIES {
                let config = generator::random_policy(random);
                let mut filter = load(&config)?;
                agree(&mut filter, &config, random, FRAMES_PER_POLICY, &mut seen)?;
            }
            seen.ensure_every_reason_but_rates("dropped")?;
            seen.ensure_every_reason_but_rates("monitored")
        }),
        trial("agrees::with_entries_of_the_operator", |random| {
            let mut seen = Seen::default();
            let config = generator::policy(Mode::Enforce);
            let mut filter = load(&config)?;
            let config = operator::list(&mut filter, &config)?;
            agree(&mut filter, &config, random, FRAMES, &mut seen)?;
            seen.ensure_every_reason_but_rates("dropped")
        }),
        trial("agrees::with_mitigations", |random| {
            let mut seen = Seen::default();
            let mut config = generator::policy(Mode::Enforce);
            // They would leave the mitigations hardly a packet.
            config.host.rules.clear();
            let mut filter = load(&config)?;
            let config = mitigations::install(&mut filter, &config)?;
            agree(&mut filter, &config, random, FRAMES, &mut seen)?;
            seen.ensure_often("dropped signature")?;
            seen.ensure_often("monitored signature")
        }),
        trial("agrees::with_rates_enforced", |random| {
            rates::agree(Mode::Enforce, random, FRAMES)
        }),
        trial("agrees::with_rates_monitored", |random| {
            rates::agree(Mode::Monitor, random, FRAMES)
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &'static str, run: fn(&mut Random) -> Result<()>) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = requirements::missing(&[]) {
            return Ok(Completion::ignored_with(reason));
        }
        let seed = match env::var("SPECTRUM_SEED") {
            Ok(seed) => seed.parse()?,
            Err(_) => 20_261,
        };
        match in_own_namespace(|| run(&mut Random(seed))) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("SPECTRUM_SEED={seed}: {error:#}"))),
        }
    })
}

/// Plays on a host without other sockets than those of its service and of one app, since the program
/// looks for the sockets of whoever runs it.
fn in_own_namespace(play: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let play = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Cookies always: else the kernel marks no listener.
        fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
        let _app = TcpListener::bind(("::", LISTENED))?;
        let _tcp = TcpListener::bind(("::", SERVICE))?;
        let _udp = UdpSocket::bind(("::", SERVICE))?;
        play()
    };
    thread::scope(|scope| match scope.spawn(play).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// How often each end was met: a generator that went blind would agree about nothing.
#[derive(Default)]
struct Seen(BTreeMap<String, usize>);

impl Seen {
    fn note(&mut self, outcome: Outcome) {
        let key = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Challenged => "challenged".to_owned(),
            Outcome::Monitored(reason) => format!("monitored {reason}"),
            Outcome::Dropped(reason) => format!("dropped {reason}"),
        };
        *self.0.entry(key).or_default() += 1;
    }

    fn ensure_every_reason_but_rates(&self, how: &str) -> Result<()> {
        use Reason::{Ceiling, PacketRate, Signature, SynRate};
        let reasons = Reason::ALL.iter();
        let stateless =
            reasons.filter(|reason| !matches!(reason, PacketRate | SynRate | Signature | Ceiling));
        for reason in stateless {
            self.ensure_often(&format!("{how} {}", reason.name()))?;
        }
        for (key, least) in [("passed", 500), ("challenged", 10)] {
            let times = self.0.get(key).copied().unwrap_or_default();
            ensure!(times >= least, "{key} only {times} times: {:?}", self.0);
        }
        Ok(())
    }

    fn ensure_often(&self, key: &str) -> Result<()> {
        let times = self.0.get(key).copied().unwrap_or_default();
        ensure!(times >= 10, "{key} only {times} times: {:?}", self.0);
        Ok(())
    }
}

fn addresses() -> Vec<IpAddr> {
    ADDRESSES.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn load(config: &Config) -> Result<Filter> {
    let mut filter = Filter::load_private()?;
    filter.apply(config, &addresses(), &places::places(&PLACES))?;
    let connected = CONNECTED.map(|source| (AppId::from_file_stem("web"), source.parse().unwrap()));
    filter.maps().replace_sessions(connected)?;
    let terms = Terms {
        sack: true,
        window_scaling: true,
        ecn: true,
        window: 65_535,
        window_scale: 7,
        hop_limit: 64,
    };
    filter.set_terms(Some(&terms))?;
    let marked = filter.mark_listeners(&[(IpAddr::from([0_u16; 8]), LISTENED).into()])?;
    ensure!(marked == 1, "the app's listener is not there");
    Ok(filter)
}

/// Runs `count` frames through the program, which has seen none yet, and through the reference.
fn agree(
    filter: &mut Filter,
    config: &Config,
    random: &mut Random,
    count: usize,
    seen: &mut Seen,
) -> Result<()> {
    let addresses = addresses();
    let slots = filter.maps().slots()?;
    let apps = config.apps.iter();
    let owners: Vec<_> = apps
        .map(|app| (Some(app.name.clone()), slots[&app.id]))
        .chain([(None, 0)])
        .collect();
    let mut expected: BTreeMap<Verdict, (u64, u64)> = BTreeMap::new();
    for number in 0..count {
        let frame = generator::frame(random);
        let verdict = reference::decide(config, &addresses, &frame);
        let run = filter.test_run(&frame, 1)?;
        let dropped = matches!(verdict.outcome, Outcome::Dropped(_));
        let answered = verdict.outcome == Outcome::Challenged;
        ensure!(
            (run.action == XDP_DROP) == dropped && (run.action == XDP_TX) == answered,
            "frame {number}: action {}, but the reference says {verdict:?}\n  {}",
            run.action,
            hex(&frame)
        );
        seen.note(verdict.outcome);
        let cell = expected.entry(verdict.clone()).or_default();
        cell.0 += 1;
        cell.1 += frame.len() as u64;
        compare(&owners, filter, &expected)
            .with_context(|| format!("frame {number}: {}", hex(&frame)))?;
    }
    Ok(())
}

/// Every cell of every app (with its slot) and of the host holds what it should.
fn compare(
    owners: &[(Option<String>, u32)],
    filter: &Filter,
    expected: &BTreeMap<Verdict, (u64, u64)>,
) -> Result<()> {
    let mut counted = BTreeMap::new();
    for (app, slot) in owners {
        let snapshot = filter.maps().counters(*slot)?;
        let mut note = |outcome, packets, bytes| {
            if packets != 0 {
                let app = app.clone();
                counted.insert(Verdict { app, outcome }, (packets, bytes));
            }
        };
        note(
            Outcome::Passed,
            snapshot.passed.packets,
            snapshot.passed.bytes,
        );
        note(
            Outcome::Challenged,
            snapshot.challenged.packets,
            snapshot.challenged.bytes,
        );
        for reason in Reason::ALL.iter().map(|reason| reason.name()) {
            if let Some(total) = snapshot.dropped.get(reason) {
                note(Outcome::Dropped(reason), total.packets, total.bytes);
            }
            if let Some(total) = snapshot.monitored.get(reason) {
                note(Outcome::Monitored(reason), total.packets, total.bytes);
            }
        }
    }
    let differ = |verdict: &&Verdict| expected.get(verdict) != counted.get(verdict);
    let differences: Vec<String> = expected
        .keys()
        .chain(counted.keys())
        .filter(differ)
        .map(|verdict| {
            let (reference, program) = (expected.get(verdict), counted.get(verdict));
            format!("{verdict:?}: reference {reference:?}, program {program:?}")
        })
        .collect();
    ensure!(differences.is_empty(), "{}", differences.join("\n  "));
    Ok(())
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
