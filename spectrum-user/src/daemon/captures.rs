//! Sampled packets on their way to those who asked for them (`spectrum capture`).
//!
//! Each capture has a queue and a task of its own. The main loop never waits for either: what finds
//! the queue full is lost, and counted.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use spectrum_common::{reason::Reason, sample::BYTES};
use spectrum_ebpf::{parse::Kind, verdict::Outcome};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};

use super::shield::{SAMPLE_BATCH, Seen};
use crate::{
    capture::{End, Filter, Message, Packet, Started},
    config::{AppId, Config},
    control::{Reply, Stream},
    dataplane::{clock, samples::Sample},
};

/// Captures at once, those included of which a client has still to read the end.
const MOST: usize = 8;

/// Samples that wait for a client to read: some two megabytes, and more than come in the time
/// between two looks.
const QUEUE: usize = 2 * SAMPLE_BATCH;

/// How long clients may take to read the last samples of a capture that is over.
const PATIENCE: Duration = Duration::from_mins(1);

/// The same when the daemon stops.
const DEADLINE: Duration = Duration::from_secs(1);

/// Numbers of `enum xdp_action`.
mod xdp_action {
    pub(super) const DROP: u64 = 1;
    pub(super) const PASS: u64 = 2;
    pub(super) const TX: u64 = 3;
}

/// All that run.
#[derive(Default)]
pub(super) struct Captures {
    running: Vec<Running>,
    /// Those that are over, but for what their clients have still to read.
    ending: Vec<Ending>,
    tasks: JoinSet<()>,
}

struct Running {
    wanted: Wanted,
    queue: mpsc::Sender<Captured>,
    lost: Arc<AtomicU64>,
    /// Why it ended, if not because the client had enough.
    why: oneshot::Sender<String>,
    task: AbortHandle,
}

struct Ending {
    task: AbortHandle,
    deadline: Instant,
}

/// What a task sends.
struct Captured {
    interface: usize,
    app: Option<AppId>,
    sample: Sample,
}

impl Captures {
    /// Answers who asks for packets, and begins to send them.
    pub(super) fn start(
        &mut self,
        filter: &Filter,
        config: &Config,
        interfaces: Vec<String>,
        reply: Reply,
    ) {
        self.tidy(Instant::now());
        let wanted = match self.admit(filter, config) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.tasks.spawn(reply.send(Err::<Started, _>(error)));
                return;
            }
        };
        let (queue, taken) = mpsc::channel(QUEUE);
        let (why, ended) = oneshot::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let task = Task {
            taken,
            lost: Arc::clone(&lost),
            ended,
            names: config
                .apps
                .iter()
                .map(|app| (app.id, app.name.clone()))
                .collect(),
            boot: clock::wall_time(Duration::ZERO),
        };
        let task = self.tasks.spawn(async move {
            if let Err(error) = task.run(reply, interfaces).await {
                log::debug!("a capture ended: {error:#}");
            }
        });
        self.running.push(Running {
            wanted,
            queue,
            lost,
            why,
            task,
        });
    }

    fn admit(&self, filter: &Filter, config: &Config) -> Result<Wanted> {
        ensure!(
            self.running.len() + self.ending.len() < MOST,
            "{MOST} captures run already\n  help: end one of them"
        );
        Wanted::new(filter, config, clock::since_boot())
    }

    /// Gives each capture what it wants of these samples.
    pub(super) fn offer(&mut self, samples: &[Seen]) {
        self.tidy(Instant::now());
        for running in &self.running {
            let wanted = samples.iter().filter(|seen| running.wanted.includes(seen));
            for seen in wanted {
                let captured = Captured {
                    interface: seen.interface,
                    app: seen.app,
                    sample: seen.sample,
                };
                // Who has had enough misses nothing.
                if let Err(mpsc::error::TrySendError::Full(_)) = running.queue.try_send(captured) {
                    running.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends all captures, and tells the clients why.
    pub(super) fn end(&mut self, why: &str) {
        let deadline = Instant::now() + PATIENCE;
        for running in self.running.drain(..) {
            // Whoever had enough does not ask why.
            let _gone = running.why.send(why.to_owned());
            self.ending.push(Ending {
                task: running.task,
                deadline,
            });
        }
    }

    /// Takes note of captures that are over, and lets go of clients that do not read the end of theirs.
    fn tidy(&mut self, now: Instant) {
        while self.tasks.try_join_next().is_some() {}
        let over = self
            .running
            .extract_if(.., |running| running.queue.is_closed());
        self.ending.extend(over.map(|running| Ending {
            task: running.task,
            deadline: now + PATIENCE,
        }));
        self.ending.retain(|ending| {
            if ending.deadline <= now {
                ending.task.abort();
            }
            !ending.task.is_finished()
        });
    }

    /// Lets clients read what is left of captures that were ended.
    pub(super) async fn finish(&mut self) {
        let finished = timeout(DEADLINE, async {
            while self.tasks.join_next().await.is_some() {}
        });
        if finished.await.is_err() {
            log::debug!("a client did not read the end of its capture in time");
        }
        self.tasks.shutdown().await;
    }
}

/// [`Filter`], understood.
struct Wanted {
    end: Option<End>,
    reason: Option<Reason>,
    app: Option<AppId>,
    source: Option<IpNet>,
    /// What came before is not wanted, though it be seen only now.
    since: Duration,
}

impl Wanted {
    fn new(filter: &Filter, config: &Config, since: Duration) -> Result<Self> {
        let reason = filter.reason.map(Reason::try_from).transpose();
        let reason = reason.map_err(|number| anyhow::anyhow!("no reason has the number {number}"));
        let known = |id: &String| {
            let app = config.apps.iter().find(|app| app.id.to_string() == *id);
            app.map(|app| app.id).context(
                "the daemon does not know the app\n  help: it learns of it at its next reload",
            )
        };
        Ok(Self {
            end: filter.end,
            reason: reason?,
            app: filter.app.as_ref().map(known).transpose()?,
            source: filter.source,
            since,
        })
    }

    fn includes(&self, Seen { app, sample, .. }: &Seen) -> bool {
        let outcome = sample.verdict.outcome;
        let has_end = self.end.is_none_or(|end| match end {
            End::Passed => matches!(outcome, Outcome::Passed | Outcome::Monitored(_)),
            End::Dropped => matches!(outcome, Outcome::Dropped(_)),
        });
        let has_reason = |wanted| {
            outcome
                .objection()
                .is_some_and(|(reason, _)| reason == wanted)
        };
        let source: IpAddr = sample.packet.source.into();
        let is_from =
            |wanted: IpNet| sample.packet.kind == Kind::Addressed && wanted.contains(&source);
        has_end
            && sample.time >= self.since
            && self.reason.is_none_or(has_reason)
            && self.app.is_none_or(|wanted| *app == Some(wanted))
            && self.source.is_none_or(is_from)
    }
}

/// Sends what is in a queue.
struct Task {
    taken: mpsc::Receiver<Captured>,
    lost: Arc<AtomicU64>,
    ended: oneshot::Receiver<String>,
    names: BTreeMap<AppId, String>,
    /// When the host started, by the clock on the wall as it is now: a step of that clock must not
    /// tear a capture apart.
    boot: SystemTime,
}

impl Task {
    async fn run(mut self, reply: Reply, interfaces: Vec<String>) -> Result<()> {
        let started = Started {
            interfaces,
            snap_length: u32::try_from(BYTES)?,
        };
        let mut stream = reply.begin(started).await?;
        while let Some(captured) = self.next(&mut stream).await {
            let packet = self.packet(&captured)?;
            stream.send(&Message::Packet(packet)).await?;
        }
        let ended = Message::Ended {
            lost: self.lost.load(Ordering::Relaxed),
            why: self.ended.try_recv().ok(),
        };
        stream.send(&ended).await
    }

    /// The next sample; `None` if no more will come, and none is left.
    async fn next(&mut self, stream: &mut Stream) -> Option<Captured> {
        if !self.taken.is_closed() {
            tokio::select! {
                captured = self.taken.recv() => return captured,
                () = stream.enough() => self.taken.close(),
            }
        }
        self.taken.recv().await
    }

    fn packet(&self, captured: &Captured) -> Result<Packet> {
        let sample = &captured.sample;
        let since_1970 = (self.boot + sample.time).duration_since(SystemTime::UNIX_EPOCH)?;
        let name = captured.app.and_then(|app| self.names.get(&app));
        Ok(Packet {
            interface: u32::try_from(captured.interface)?,
            time_ns: u64::try_from(since_1970.as_nanos())?,
            length: sample.packet.length,
            bytes: sample.bytes().to_vec(),
            action: action(sample.verdict.outcome),
            weight: sample.weight,
            comment: comment(sample, name.map(String::as_str)),
        })
    }
}

const fn action(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Passed | Outcome::Monitored(_) => xdp_action::PASS,
        Outcome::Dropped(_) => xdp_action::DROP,
        Outcome::Answered => xdp_action::TX,
    }
}

/// `dropped: blocked, app mc.example.com, stands for 37 packets`.
fn comment(sample: &Sample, app: Option<&str>) -> String {
    let end = match sample.verdict.outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Monitored(reason) => format!("passed, monitored: {}", reason.name()),
        Outcome::Dropped(reason) => format!("dropped: {}", reason.name()),
        Outcome::Answered => "answered with a SYN cookie".to_owned(),
    };
    let app = app.map_or_else(|| "no app".to_owned(), |name| format!("app {name}"));
    let packets = match sample.weight {
        1 => "1 packet".to_owned(),
        weight => format!("{weight} packets"),
    };
    format!("{end}, {app}, stands for {packets}")
}

#[cfg(test)]
mod tests;
