//! An attack and the clients at once, and what came of it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Attack, Defence,
    clients::{Clients, Tally},
    cores,
    defence::Edge,
    storm,
};
use crate::{Lab, interrupt, topology::FRONT};

/// How long players play before the attack begins.
const ACQUAINTANCE: Duration = Duration::from_secs(3);

/// What came of one attack on one defence.
#[derive(Clone, Debug)]
pub struct Survival {
    /// Of the clients, from the first packet of the attack on.
    pub tally: Tally,
    /// Packets per second that arrived at the edge's interface beyond those of the calm.
    pub packets_per_second: f64,
    /// Of the core that the clients and their share of the edge run on, in percent.
    pub cpu: f64,
}

impl Survival {
    /// The latency that a share of the connections did not exceed, in milliseconds.
    pub fn connect_ms(&self, share: f64) -> Option<f64> {
        let mut latencies = self.tally.latencies.clone();
        latencies.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the length"
        )]
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        let latency = latencies.get(rank.saturating_sub(1))?;
        Some(latency.as_secs_f64() * 1e3)
    }
}

/// Sets an edge up, and lets it be attacked for `span`.
///
/// # Errors
/// The lab or the edge cannot be set up, or the run is interrupted.
pub fn survive(
    defence: Defence,
    attack: Attack,
    span: Duration,
    spectrum: PathBuf,
) -> Result<Survival> {
    interrupt::check()?;
    let lab = Lab::new()?;
    let edge = cores::on(cores::CLIENTS, || Edge::open(&lab, defence, spectrum))?
        .with_context(|| format!("setting up {}", defence.name()))?;
    let clients = cores::on(cores::CLIENTS, || Clients::join(&lab.client, ACQUAINTANCE))??;
    std::thread::sleep(cores::SETTLE);

    let received = || edge.lab.edge.received(FRONT);
    let flood = storm::flood(attack, lab.attack_path())?;
    let (before, begun) = (received()?, Instant::now());
    let running = flood
        .map(|flood| cores::on(cores::ATTACKERS, || flood.start(&lab.attacker))?)
        .transpose()?;
    let work = || cores::on(cores::CLIENTS, || clients.run(span))?;
    let (tally, cpu) = cores::measured(cores::CLIENTS, work)?;
    let arrived = received()? - before;
    let elapsed = begun.elapsed();
    running.map(|running| running.stop()).transpose()?;
    Ok(Survival {
        tally,
        packets_per_second: arrived as f64 / elapsed.as_secs_f64(),
        cpu,
    })
}
