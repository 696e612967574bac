//! How much each address holds.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Power of two; enough that workers rarely meet in one.
const SHARDS: usize = 64;

/// Who holds nothing has no entry.
#[derive(Debug)]
pub(super) struct Counts {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<IpAddr, u32>;

/// Room for one more.
pub(super) struct Room<'a> {
    shard: MutexGuard<'a, Shard>,
    key: IpAddr,
    held: u32,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Counts {
    /// `None` if `key` holds `most` already.
    pub(super) fn below(&self, key: IpAddr, most: u32) -> Option<Room<'_>> {
        let shard = self.shard(key);
        let held = shard.get(&key).copied().unwrap_or_default();
        (held < most).then_some(Room { shard, key, held })
    }

    /// Whatever it holds.
    pub(super) fn add_one(&self, key: IpAddr) {
        *self.shard(key).entry(key).or_default() += 1;
    }

    pub(super) fn remove_one(&self, key: IpAddr) {
        if let Entry::Occupied(mut entry) = self.shard(key).entry(key) {
            match entry.get().checked_sub(1) {
                None | Some(0) => drop(entry.remove()),
                Some(left) => *entry.get_mut() = left,
            }
        }
    }

    pub(super) fn holds(&self, key: IpAddr) -> bool {
        self.shard(key).contains_key(&key)
    }

    /// Those that hold something.
    pub(super) fn keys(&self) -> Vec<IpAddr> {
        let shards = self.shards.iter();
        let keys = shards.flat_map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.keys().copied().collect::<Vec<_>>()
        });
        keys.collect()
    }

    fn shard(&self, key: IpAddr) -> MutexGuard<'_, Shard> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        #[expect(
            clippy::indexing_slicing,
            reason = "the index is a remainder of the length"
        )]
        let shard = &self.shards[index];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    pub(super) fn add_one(mut self) {
        self.shard.insert(self.key, self.held + 1);
    }
}
