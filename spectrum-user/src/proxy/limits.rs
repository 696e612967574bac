//! How many connections and sessions an app may hold, in all and per source.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::config::Limits;

/// Power of two; enough that workers rarely meet in one.
const SHARDS: usize = 64;

/// Counts what one app holds, over all workers. A source costs an entry only while it holds
/// something.
#[derive(Debug)]
pub(super) struct Admission {
    total: AtomicU32,
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// The right to one connection or session; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    source: IpAddr,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    App,
    Source,
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            total: AtomicU32::new(0),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// # Errors
    /// The limit that stands against it.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr, limits: &Limits) -> Result<Permit, Full> {
        let source = source(client);
        if self.total.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::App);
        }
        let mut shard = self.shard(source);
        let held = shard.get(&source).copied().unwrap_or_default();
        if held >= limits.connections_per_source {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Source);
        }
        shard.insert(source, held + 1);
        drop(shard);
        Ok(Permit {
            admission: Arc::clone(self),
            source,
        })
    }

    /// The right to what was admitted before, whatever the limits are by now.
    pub(super) fn readmit(self: &Arc<Self>, client: IpAddr) -> Permit {
        let source = source(client);
        self.total.fetch_add(1, Ordering::Relaxed);
        *self.shard(source).entry(source).or_default() += 1;
        Permit {
            admission: Arc::clone(self),
            source,
        }
    }

    /// What is held now.
    pub(super) fn active(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether a source holds something now.
    pub(super) fn holds(&self, source: IpAddr) -> bool {
        self.shard(source).contains_key(&source)
    }

    /// The sources that hold something now.
    pub(super) fn sources(&self) -> Vec<IpAddr> {
        let shards = self.shards.iter();
        let sources = shards.flat_map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.keys().copied().collect::<Vec<_>>()
        });
        sources.collect()
    }

    fn shard(&self, source: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hasher.hash_one(source) as usize % SHARDS;
        #[expect(
            clippy::indexing_slicing,
            reason = "the index is a remainder of the length"
        )]
        let shard = &self.shards[index];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, source: IpAddr) {
        if let Entry::Occupied(mut entry) = self.shard(source).entry(source) {
            match entry.get().checked_sub(1) {
                None | Some(0) => drop(entry.remove()),
                Some(left) => *entry.get_mut() = left,
            }
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self.source);
    }
}

/// Who counts as one source: an IPv4 address, or an IPv6 /64, which one subscriber has as a whole.
pub(super) fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => {
            let network = u128::from(ip) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests;
