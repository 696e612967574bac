//! What is known of one origin. It outlives changes of its app's other settings.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::queue::Queue;
use crate::{
    config::{Origin, PortRange},
    proxy::clock::Moment,
};

/// How long an origin that could not be reached is passed over while others can.
const PAUSE: Duration = Duration::from_secs(10);

/// All workers read and write it, and lock nothing.
#[derive(Debug)]
pub(in crate::proxy) struct OriginState {
    pub(in crate::proxy) origin: Origin,
    /// Passed over until this [`Moment`]; 0 = up.
    paused_until: AtomicU64,
    /// When it came back, or will; 0 = it was never away.
    back_since: AtomicU64,
    failures: AtomicU64,
    active: AtomicU32,
    /// So many it may have; 0 = any number.
    most: AtomicU32,
    /// Who waits for it, and for the others of its group.
    queue: Arc<Queue>,
    /// Moving average of the time to connect, in microseconds; 0 = never measured.
    connect_us: AtomicU64,
    /// Health checks say that it is down.
    is_down: AtomicBool,
    /// For the operator alone; no worker touches it.
    check: Mutex<Option<Checked>>,
}

/// What is known from health checks.
#[derive(Clone, Debug)]
struct Checked {
    last: CheckSnapshot,
    /// It is down or up since then.
    since: Timestamp,
}

/// What the last health check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSnapshot {
    pub passed: bool,
    /// How many checks have ended so, up to now.
    pub in_a_row: u32,
    /// Why it has failed.
    pub failure: Option<String>,
    pub at: Timestamp,
}

/// What the operator sees of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum OriginCondition {
    Up,
    /// It came back, and gets this part of its share.
    SlowStart {
        percent: u32,
    },
    /// Passed over while others can be reached.
    Paused {
        seconds_left: u64,
    },
    /// Health checks say so: passed over while others are up.
    Down {
        since: Timestamp,
    },
    /// Gets no new connections.
    Maintenance,
}

impl OriginState {
    pub(super) fn new(origin: Origin, queue: Arc<Queue>) -> Self {
        Self {
            origin,
            paused_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            active: AtomicU32::new(0),
            most: AtomicU32::new(0),
            queue,
            connect_us: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            check: Mutex::new(None),
        }
    }

    pub(in crate::proxy) fn address(&self, ports: PortRange, edge_port: u16) -> SocketAddr {
        self.origin.address(ports, edge_port)
    }

    /// It was reached, `after` this time (`None`: UDP, where reaching takes none).
    pub(in crate::proxy) fn reached(&self, after: Option<Duration>) {
        if self.paused_until.load(Ordering::Relaxed) != 0 {
            self.paused_until.store(0, Ordering::Relaxed);
            if self.back_since.load(Ordering::Relaxed) > Moment::now().to_bits() {
                self.comes_back();
            }
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
    pub(in crate::proxy) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let until = Moment::now().plus(PAUSE).to_bits();
        self.paused_until.store(until, Ordering::Relaxed);
        self.back_since.store(until, Ordering::Relaxed);
        // It may be the turn of the backups.
        self.queue.wake();
    }

    /// It was away, and takes connections again from now on.
    pub(super) fn comes_back(&self) {
        let now = Moment::now().to_bits();
        self.back_since.store(now, Ordering::Relaxed);
        self.queue.wake();
    }

    /// A health check has found something, and by that it is taken for up or down.
    pub(in crate::proxy) fn checked(&self, last: CheckSnapshot, is_up: bool) {
        let was_up = !self.is_down.swap(!is_up, Ordering::Relaxed);
        if is_up && !was_up {
            self.comes_back();
        }
        let mut check = self.check();
        let since = match &*check {
            Some(before) if is_up == was_up => before.since,
            _ => last.at,
        };
        *check = Some(Checked { last, since });
    }

    /// Nobody checks it any more.
    pub(in crate::proxy) fn is_unchecked(&self) {
        self.is_down.store(false, Ordering::Relaxed);
        *self.check() = None;
    }

    /// Whether health checks have said anything of it yet.
    pub(in crate::proxy) fn is_checked(&self) -> bool {
        self.check().is_some()
    }

    /// Whether health checks say so.
    pub(in crate::proxy) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    pub(super) fn last_check(&self) -> Option<CheckSnapshot> {
        self.check().as_ref().map(|checked| checked.last.clone())
    }

    fn check(&self) -> MutexGuard<'_, Option<Checked>> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be expected to answer.
    pub(super) fn is_up(&self, now: Moment) -> bool {
        !self.is_down() && self.pause_left(now).is_zero()
    }

    fn pause_left(&self, now: Moment) -> Duration {
        match self.paused_until.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            until => Moment::from_bits(until).since(now),
        }
    }

    /// What it gets of its share while it starts slowly, in percent; at least 1.
    pub(super) fn percent(&self, now: Moment, slow_start: Duration) -> u32 {
        let since = self.back_since.load(Ordering::Relaxed);
        let passed = now.since(Moment::from_bits(since));
        if since == 0 || passed >= slow_start {
            return 100;
        }
        // The quotient is below 100.
        let percent = passed.as_millis() * 100 / slow_start.as_millis().max(1);
        u32::try_from(percent).unwrap_or(100).max(1)
    }

    pub(super) fn set_most(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Whether it has as many as it may.
    pub(super) fn is_full(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most != 0 && self.active() >= most
    }

    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn connect_us(&self) -> Option<u64> {
        Some(self.connect_us.load(Ordering::Relaxed)).filter(|&time| time > 0)
    }

    pub(super) fn condition(&self, now: Moment, slow_start: Duration) -> OriginCondition {
        if self.is_down() {
            let since = self.check().as_ref().map(|checked| checked.since);
            return OriginCondition::Down {
                since: since.unwrap_or_default(),
            };
        }
        let left = self.pause_left(now);
        if !left.is_zero() {
            return OriginCondition::Paused {
                seconds_left: left.as_secs().max(1),
            };
        }
        match self.percent(now, slow_start) {
            100.. => OriginCondition::Up,
            percent => OriginCondition::SlowStart { percent },
        }
    }
}

/// An origin while a connection or session has it: counted among those that it has.
#[derive(Debug)]
pub(in crate::proxy) struct Held(Arc<OriginState>);

impl Held {
    /// Though it be full.
    pub(super) fn new(state: &Arc<OriginState>) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }

    /// `None` if it is full.
    pub(super) fn take(state: &Arc<OriginState>) -> Option<Self> {
        let most = match state.most.load(Ordering::Relaxed) {
            0 => u32::MAX,
            most => most,
        };
        let one_more = |active: u32| (active < most).then(|| active + 1);
        let taken = state
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(Arc::clone(state)))
    }
}

impl Deref for Held {
    type Target = OriginState;

    fn deref(&self) -> &OriginState {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        if self.0.most.load(Ordering::Relaxed) != 0 {
            self.0.queue.wake();
        }
    }
}
