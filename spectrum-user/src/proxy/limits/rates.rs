//! How fast connections and sessions may begin: token buckets, kept as the moment at which each is
//! full again (the generic cell rate algorithm of ITU-T I.371).

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Limit;
use crate::{
    config::{ConnectionRate, NewConnections},
    proxy::clock::nanoseconds,
};

/// Buckets of sources: 1.1 MiB for an app that limits them.
const SETS: usize = 16 * 1024;
const WAYS: usize = 4;

/// The buckets of one app, over all workers.
#[derive(Debug)]
pub(in crate::proxy) struct Rates {
    settings: NewConnections,
    app: Option<(Pace, AtomicU64)>,
    sources: Option<(Pace, Sources)>,
}

/// A token comes each `interval`; the bucket is empty when it is full only after `depth`.
/// Nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: u64,
    depth: u64,
}

impl Pace {
    fn new(rate: ConnectionRate) -> Self {
        const SECOND: u64 = 1_000_000_000;
        // Rounded up, so that it is never more than the rate.
        let interval = SECOND.div_ceil(rate.per_second.max(1).into());
        Self {
            interval,
            depth: interval * u64::from(rate.burst),
        }
    }

    /// When a bucket that is full at `full_at` is full again, if a token is taken `now`; `None` if it
    /// has none.
    fn after_one(self, full_at: u64, now: u64) -> Option<u64> {
        let after = full_at.max(now) + self.interval;
        (after - now <= self.depth).then_some(after)
    }
}

impl Rates {
    pub(in crate::proxy) fn new(settings: NewConnections) -> Self {
        Self {
            settings,
            app: settings
                .app
                .map(|rate| (Pace::new(rate), AtomicU64::new(0))),
            sources: {
                let rate = settings.per_source;
                rate.map(|rate| (Pace::new(rate), Sources::default()))
            },
        }
    }

    pub(in crate::proxy) fn settings(&self) -> NewConnections {
        self.settings
    }

    /// That a source may begin one more: [`Turn::take`] says that it has.
    pub(super) fn turn_of(&self, source: IpAddr) -> Result<Turn<'_>, Limit> {
        let Some((pace, sources)) = &self.sources else {
            return Ok(Turn(None));
        };
        let now = nanoseconds();
        let (set, tag) = sources.set_of(source);
        let full_at = set.iter().find(|bucket| bucket.tag == tag);
        let full_at = full_at.map_or(0, |bucket| bucket.full_at);
        let Some(full_at) = pace.after_one(full_at, now) else {
            return Err(Limit::NewConnectionsPerSource);
        };
        Ok(Turn(Some((set, Bucket { tag, full_at }))))
    }

    /// Takes a token of the app's.
    pub(super) fn take(&self) -> Result<(), Limit> {
        let Some((pace, full_at)) = &self.app else {
            return Ok(());
        };
        let now = nanoseconds();
        let taken = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            pace.after_one(full_at, now)
        });
        taken.map(drop).map_err(|_empty| Limit::NewConnections)
    }
}

/// A table of fixed size: no flood of sources makes it grow. In a set that is full, the bucket gives
/// way that is full the soonest, of which the least is forgotten.
#[derive(Debug)]
struct Sources {
    hasher: RandomState,
    sets: Box<[Mutex<Set>]>,
}

type Set = [Bucket; WAYS];

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The hash of the source, which nobody can choose.
    tag: u64,
    full_at: u64,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Sources {
    fn set_of(&self, source: IpAddr) -> (MutexGuard<'_, Set>, u64) {
        let tag = self.hasher.hash_one(source);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = tag as usize % SETS;
        #[expect(
            clippy::indexing_slicing,
            reason = "the index is a remainder of the length"
        )]
        let set = &self.sets[index];
        (set.lock().unwrap_or_else(PoisonError::into_inner), tag)
    }
}

/// What [`Rates::turn_of`] has found; nothing where sources are not limited.
pub(super) struct Turn<'a>(Option<(MutexGuard<'a, Set>, Bucket)>);

impl Turn<'_> {
    pub(super) fn take(self) {
        let Some((mut set, taken)) = self.0 else {
            return;
        };
        let place = |bucket: &&mut Bucket| (bucket.tag != taken.tag, bucket.full_at);
        if let Some(bucket) = set.iter_mut().min_by_key(place) {
            *bucket = taken;
        }
    }
}

#[cfg(test)]
mod tests;
