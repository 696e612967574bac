//! The origins of an app: which one is next, and which one is left alone for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use crate::config::{App, Origin};

/// How long an origin that could not be reached is passed over while others can.
const PAUSE: Duration = Duration::from_secs(10);

/// With `lowest_latency`, one connection in this many goes to the next origin in turn, so that the
/// measures of the others stay true.
const PROBE_EVERY: usize = 32;

/// The origins of an app, in its order.
#[derive(Debug)]
pub(super) struct Origins {
    states: Vec<Arc<OriginState>>,
    lowest_latency: bool,
    turn: AtomicUsize,
}

/// What is known of one origin; it outlives changes of its app's other settings.
#[derive(Debug)]
pub(super) struct OriginState {
    pub(super) origin: Origin,
    /// Passed over until this [`Moment`]; 0 = up.
    paused_until: AtomicU64,
    failures: AtomicU64,
    /// Moving average of the time to connect, in microseconds; 0 = never measured.
    connect_us: AtomicU64,
}

/// What the operator sees of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSnapshot {
    /// Address, with the port that belongs to the first port of the app.
    pub address: std::net::SocketAddr,
    pub state: OriginCondition,
    /// Attempts that did not reach it, and UDP datagrams that it refused.
    pub failures: u64,
    /// Moving average of the time to connect, in microseconds; absent before the first connection.
    pub connect_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum OriginCondition {
    Up,
    /// Passed over while others can be reached.
    Paused {
        seconds_left: u64,
    },
}

impl Origins {
    /// Those of `app`; origins that `previous` knows keep their state.
    pub(super) fn new(app: &App, previous: Option<&Self>) -> Self {
        let known = previous.map(|origins| origins.states.as_slice());
        let state = |origin: &Origin| {
            known
                .unwrap_or_default()
                .iter()
                .find(|state| state.origin == *origin)
                .map_or_else(|| Arc::new(OriginState::new(*origin)), Arc::clone)
        };
        Self {
            states: app.origins.iter().map(state).collect(),
            lowest_latency: app.lowest_latency,
            turn: AtomicUsize::new(0),
        }
    }

    /// Every origin once, in the order in which a new connection should try them. Those that pause
    /// come last.
    pub(super) fn attempts(&self) -> Vec<Arc<OriginState>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut attempts = self.states.clone();
        if attempts.len() > 1 {
            let probes = self.lowest_latency && turn % PROBE_EVERY == PROBE_EVERY - 1;
            let first = if probes { turn / PROBE_EVERY } else { turn } % attempts.len();
            attempts.rotate_left(first);
            let by_latency = self.lowest_latency && !probes;
            let now = Moment::now();
            attempts.sort_by_cached_key(|state| {
                let measured = state.connect_us.load(Ordering::Relaxed);
                (state.pauses(now), if by_latency { measured } else { 0 })
            });
        }
        attempts
    }

    /// Whether an origin other than `than` may be expected to answer.
    pub(super) fn has_better(&self, than: &OriginState) -> bool {
        let now = Moment::now();
        self.states
            .iter()
            .any(|state| state.origin != than.origin && !state.pauses(now))
    }

    pub(super) fn snapshot(&self, app: &App) -> Vec<OriginSnapshot> {
        let now = Moment::now();
        let snapshot = |state: &Arc<OriginState>| OriginSnapshot {
            address: state.origin.address(app.ports, app.ports.first),
            state: state.condition(now),
            failures: state.failures.load(Ordering::Relaxed),
            connect_us: Some(state.connect_us.load(Ordering::Relaxed)).filter(|&time| time > 0),
        };
        self.states.iter().map(snapshot).collect()
    }
}

impl OriginState {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            paused_until: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            connect_us: AtomicU64::new(0),
        }
    }

    /// It was reached, `after` this time (`None`: UDP, where reaching takes none).
    pub(super) fn reached(&self, after: Option<Duration>) {
        if self.paused_until.load(Ordering::Relaxed) != 0 {
            self.paused_until.store(0, Ordering::Relaxed);
        }
        let Some(after) = after else { return };
        let new = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.connect_us.load(Ordering::Relaxed);
        // An eighth of weight for the newest, as TCP smooths its round-trip time. Two workers may
        // overwrite each other; a measure lost is no harm.
        let average = if old == 0 {
            new
        } else {
            old - old / 8 + new / 8
        };
        self.connect_us.store(average.max(1), Ordering::Relaxed);
    }

    /// It could not be reached.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let until = Moment::now().plus(PAUSE);
        self.paused_until.store(until.to_bits(), Ordering::Relaxed);
    }

    /// Whether others come first.
    fn pauses(&self, now: Moment) -> bool {
        !self.pause_left(now).is_zero()
    }

    fn pause_left(&self, now: Moment) -> Duration {
        match self.paused_until.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            until => Moment::from_bits(until).since(now),
        }
    }

    fn condition(&self, now: Moment) -> OriginCondition {
        let left = self.pause_left(now);
        if left.is_zero() {
            OriginCondition::Up
        } else {
            OriginCondition::Paused {
                seconds_left: left.as_secs().max(1),
            }
        }
    }
}

#[cfg(test)]
mod tests;
