//! How many bytes of an app pass: token buckets of each connection, each source and the whole app,
//! one for each way.
//!
//! A TCP connection takes tokens before it reads, and gives back what it did not need; without
//! tokens it does not read, and its sender slows down. Datagrams cannot wait: those for which there
//! are no tokens are dropped.

mod bucket;
mod gate;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::clock::nanoseconds;
use crate::config::{self, Ways};
use bucket::Bucket;
pub(super) use gate::{Gate, Way};

/// Buckets of sources that are gone may pile up so far before they are swept.
const SLACK: usize = 64;

/// What an app and its sources have together, over all workers.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// Of the limits: a connection that has seen another looks at them again. 0: there never were
    /// any.
    version: AtomicU32,
    limits: Mutex<config::Bandwidth>,
    app: Pair,
    sources: Mutex<Sources>,
}

/// A bucket for each way.
#[derive(Debug)]
struct Pair {
    up: Bucket,
    down: Bucket,
}

/// A source that is gone keeps its buckets until they are full, so that it gains nothing by coming
/// again.
#[derive(Debug, Default)]
struct Sources {
    pairs: HashMap<IpAddr, Arc<Pair>>,
    /// Of these, after the last sweep.
    swept: usize,
}

impl Bandwidth {
    pub(super) fn new(limits: config::Bandwidth) -> Self {
        Self {
            version: AtomicU32::new(u32::from(!limits.is_unlimited())),
            app: Pair::new(limits.app, nanoseconds()),
            limits: Mutex::new(limits),
            sources: Mutex::default(),
        }
    }

    /// From now on, for connections that exist as well.
    pub(super) fn set(&self, limits: config::Bandwidth) {
        let mut current = self.limits();
        if *current == limits {
            return;
        }
        *current = limits;
        let now = nanoseconds();
        self.app.set(limits.app, now);
        for pair in self.sources().pairs.values() {
            pair.set(limits.per_source, now);
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Whether there are limits now.
    pub(super) fn is_bounded(&self) -> bool {
        self.version() != 0 && !self.limits().is_unlimited()
    }

    fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    fn limits(&self) -> MutexGuard<'_, config::Bandwidth> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_source(&self, source: IpAddr, ways: Ways) -> Arc<Pair> {
        let now = nanoseconds();
        self.sources().get(source, ways, now)
    }
}

impl Sources {
    fn get(&mut self, source: IpAddr, ways: Ways, now: u64) -> Arc<Pair> {
        if self.pairs.len() > 2 * self.swept + SLACK {
            let is_needed = |pair: &Arc<Pair>| Arc::strong_count(pair) > 1 || !pair.is_full(now);
            self.pairs.retain(|_, pair| is_needed(pair));
            self.swept = self.pairs.len();
        }
        let pair = self.pairs.entry(source);
        let pair = pair.or_insert_with(|| Arc::new(Pair::new(ways, now)));
        Arc::clone(pair)
    }
}

impl Pair {
    fn new(ways: Ways, now: u64) -> Self {
        Self {
            up: Bucket::new(ways.up, now),
            down: Bucket::new(ways.down, now),
        }
    }

    fn set(&self, ways: Ways, now: u64) {
        self.up.set_rate(ways.up, now);
        self.down.set_rate(ways.down, now);
    }

    fn is_full(&self, now: u64) -> bool {
        self.up.is_full(now) && self.down.is_full(now)
    }

    fn bucket(&self, way: Way) -> &Bucket {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

#[cfg(test)]
mod tests;
