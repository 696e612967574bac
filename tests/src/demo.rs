//! `cargo xtask run` without a configuration: the whole way, live.
//!
//! Clients are served through the edge while attacks come and go. The outcome is a success only if
//! nearly every client was served, and every attack that ran was dropped for its own reason.

use std::{
    fmt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Lab,
    client::Served,
    daemon::{Daemon, HostDocument, Site, status::Status},
    interrupt,
};

mod attackers;
mod screen;
mod services;

use attackers::{Attackers, Kind};
use screen::{Frame, Screen};
use services::{Origins, Probes};

#[derive(Clone, Debug)]
pub struct Options {
    /// The `spectrum` binary.
    pub spectrum: PathBuf,
    /// When to end; by default on Ctrl-C.
    pub duration: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub services: Vec<(&'static str, Served)>,
    pub attacks: Vec<AttackOutcome>,
}

#[derive(Clone, Debug)]
pub struct AttackOutcome {
    pub name: &'static str,
    /// Names of the drop reasons that the attack deserves.
    pub reasons: Vec<&'static str>,
    pub sent: u64,
    /// Packets dropped for these reasons.
    pub dropped: u64,
    /// SYNs that the filter answered with a cookie instead of letting them in.
    pub answered: u64,
}

impl Outcome {
    /// Percent of its clients' attempts that each service must have answered.
    const SERVED: f64 = 99.0;

    pub fn is_success(&self) -> bool {
        let served = |(_, served): &(_, Served)| served.percent() >= Self::SERVED;
        self.services.iter().all(served) && self.attacks.iter().all(AttackOutcome::was_met)
    }
}

impl AttackOutcome {
    /// At least nine of ten packets: a rate limit lets through what it admits.
    pub fn was_met(&self) -> bool {
        (self.dropped + self.answered) * 10 >= self.sent * 9
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, served) in &self.services {
            let Served {
                attempts,
                successes,
            } = served;
            let percent = served.percent();
            writeln!(
                f,
                "clients   {name:<10} {successes} of {attempts} served ({percent:.1} %)"
            )?;
        }
        for attack in &self.attacks {
            let AttackOutcome {
                name,
                sent,
                dropped,
                reasons,
                answered,
            } = attack;
            let reasons = reasons.join(", ");
            write!(
                f,
                "attack    {name:<15} {dropped} of {sent} packets dropped ({reasons})"
            )?;
            if *answered > 0 {
                write!(f, ", {answered} answered with a cookie")?;
            }
            writeln!(f)?;
        }
        let verdict = if self.is_success() {
            "clients were served and every attack was dropped"
        } else {
            "FAILED: clients were not served, or an attack was not dropped"
        };
        writeln!(f, "outcome   {verdict}")
    }
}

/// Runs the lab until its time is over or someone presses Ctrl-C, and removes it.
///
/// # Errors
/// Not root, a kernel without what the lab needs, or a daemon that does not start or ends early.
pub fn run(options: Options) -> Result<Outcome> {
    let _watch = interrupt::watch(1)?;
    let lab = Lab::new().context("building the lab (it needs root)")?;
    let origins = Origins::start(&lab)?;
    let host = HostDocument {
        xdp_mode: "auto",
        ..HostDocument::default()
    };
    let site = Site::with_binary(&lab, options.spectrum, host)?;
    origins.write_apps(&site)?;
    let mut daemon = site.start()?;
    let probes = Probes::start(&lab, &origins)?;
    let mut attackers = Attackers::new(&lab, &site, options.duration);
    let mut screen = Screen::open(&lab, &origins, &site.status()?)?;

    let begun = Instant::now();
    let is_over = || {
        options
            .duration
            .is_some_and(|duration| begun.elapsed() >= duration)
    };
    while !is_over() && !interrupt::requested() {
        attackers.play(begun.elapsed())?;
        let status = site.status().with_context(|| daemon.log())?;
        screen.draw(&Frame {
            elapsed: begun.elapsed(),
            status: &status,
            attack: attackers.current(),
            served: &probes.served(),
        })?;
        pause(&mut daemon, screen.interval())?;
    }
    attackers.stop()?;
    let served = probes.stop();
    let outcome = judge(served, &attackers, &site.status()?)?;
    let status = daemon.stop()?;
    ensure!(status.success(), "the daemon ended with {status}");
    screen.close(&outcome)?;
    Ok(outcome)
}

/// Waits for the next frame, but not for a daemon that is gone.
fn pause(daemon: &mut Daemon<'_>, interval: Duration) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let until = Instant::now() + interval;
    while Instant::now() < until && !interrupt::requested() {
        daemon.ensure_running()?;
        thread::sleep(STEP);
    }
    Ok(())
}

fn judge(
    services: Vec<(&'static str, Served)>,
    attackers: &Attackers<'_>,
    status: &Status,
) -> Result<Outcome> {
    let everywhere = status.filter();
    let attack = |(kind, sent): (Kind, u64)| {
        // Fragments without ports belong to no app; signatures and answers are the app's own.
        let mut reasons = kind.reasons().to_vec();
        let by_reason = reasons.iter().map(|reason| everywhere.dropped(reason));
        let mut dropped = by_reason.sum();
        let mut answered = 0;
        if let Some(name) = kind.app() {
            let filter = &status.app(name)?.filter;
            reasons.push("signature");
            dropped += filter.dropped("signature");
            answered = filter.challenged.packets;
        }
        Ok(AttackOutcome {
            name: kind.name(),
            reasons,
            sent,
            dropped,
            answered,
        })
    };
    Ok(Outcome {
        services,
        attacks: attackers
            .sent()
            .into_iter()
            .map(attack)
            .collect::<Result<_>>()?,
    })
}
