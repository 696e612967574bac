//! Sources that have proved to be real: where one is kept, and for how long.

use spectrum_common::{
    address::Address,
    proven::{EPOCH_BITS, PROOF_EPOCHS, ProvenSet, SETS},
};

use crate::limits::{mix, network};

const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

/// Where a source (for IPv6 its /64) at an app is kept, and what tells it from the others there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    hash: u64,
}

/// A change of a set: a single word, so that whoever reads meanwhile sees the old or the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub way: usize,
    pub entry: u64,
}

impl Place {
    /// `app` is the id of the app rather than its slot, which another app may get; `seed` is
    /// [`Settings::hash_seed`](spectrum_common::settings::Settings::hash_seed).
    #[inline(always)]
    pub const fn new(source: &Address, app: &[u8; 16], seed: u32) -> Self {
        let id = u128::from_ne_bytes(*app);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let salt = (id >> 64) as u64 ^ id as u64 ^ seed as u64;
        Self {
            hash: mix(network(source) ^ mix(salt)),
        }
    }

    /// The element of the map.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn set_index(&self) -> u32 {
        self.hash as u32 & (SETS - 1)
    }

    /// The entry without its epoch; never 0, which means "unused".
    #[inline(always)]
    const fn tag(&self) -> u64 {
        (self.hash | 1 << EPOCH_BITS) & !EPOCH_MASK
    }

    /// Is the source in its set, and was it proved lately?
    #[inline(always)]
    pub fn is_proven(&self, set: &ProvenSet, epoch: u32) -> bool {
        let lately = |entry| self.owns(entry) && age(entry, epoch) <= PROOF_EPOCHS;
        set.entries.iter().any(|&entry| lately(entry))
    }

    /// What notes that the source was proved in this epoch, if that is not there yet. In a full
    /// set, the one whose proof is the oldest gives way.
    pub fn prove(&self, set: &ProvenSet, epoch: u32) -> Option<Change> {
        let entry = self.tag() | u64::from(epoch) & EPOCH_MASK;
        let rank = |known: u64| match known {
            _ if self.owns(known) => (2, 0),
            0 => (1, 0),
            _ => (0, age(known, epoch)),
        };
        let best = set.entries.iter().copied().enumerate();
        let (way, known) = best.max_by_key(|&(_, known)| rank(known))?;
        (known != entry).then_some(Change { way, entry })
    }

    /// Is the source in its set, however long ago?
    #[inline(always)]
    pub fn is_in(&self, set: &ProvenSet) -> bool {
        set.entries.iter().any(|&entry| self.owns(entry))
    }

    /// What puts the source into its set until it is removed; `None` if the set is full of others.
    pub fn insert(&self, set: &ProvenSet) -> Option<Change> {
        let entry = self.tag();
        let mut ways = set.entries.iter();
        let way = ways
            .position(|&known| self.owns(known))
            .or_else(|| set.entries.iter().position(|&known| known == 0))?;
        Some(Change { way, entry })
    }

    /// What takes the source out of its set, if it is there.
    pub fn remove(&self, set: &ProvenSet) -> Option<Change> {
        let way = set.entries.iter().position(|&entry| self.owns(entry))?;
        Some(Change { way, entry: 0 })
    }

    #[inline(always)]
    const fn owns(&self, entry: u64) -> bool {
        entry & !EPOCH_MASK == self.tag()
    }
}

/// Epochs since the proof, modulo 2^16.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "epochs are compared modulo 2^16"
)]
const fn age(entry: u64, epoch: u32) -> u16 {
    (epoch as u16).wrapping_sub(entry as u16)
}

#[cfg(test)]
mod proven_test;
