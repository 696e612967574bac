//! The bitmap in front of the lists, as shared memory.

use std::sync::atomic::Ordering;

use aya::maps::Map;
use spectrum_common::{access::FILTER_WORD_BITS, maps::size::FILTER_WORDS};

use super::{error::Error, shared_words::SharedWords};

/// One of the two filter maps.
pub(super) struct FilterBits(SharedWords);

impl FilterBits {
    /// Maps the array `name` into memory; the mapping keeps the map alive.
    pub(super) fn map(name: &'static str, map: &Map) -> Result<Self, Error> {
        SharedWords::map(name, map, FILTER_WORDS).map(Self)
    }

    /// Element `index` of the map; 0 if there is none.
    pub(super) fn word(&self, index: u32) -> u64 {
        self.0.get(index as usize)
    }

    /// Sets the bits `first..=last`.
    pub(super) fn insert(&self, first: u32, last: u32) {
        for_each_word(first, last, |index, mask| {
            if let Some(word) = self.0.all().get(index) {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        });
    }

    /// Makes the filter equal to `wanted`, writing only the words that differ.
    pub(super) fn replace(&self, wanted: &Bits) {
        for (word, &wanted) in self.0.all().iter().zip(&wanted.words) {
            if word.load(Ordering::Relaxed) != wanted {
                word.store(wanted, Ordering::Relaxed);
            }
        }
    }
}

/// A filter in ordinary memory, built before it is compared with the live one.
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(super) fn new() -> Self {
        Self {
            words: vec![0; FILTER_WORDS],
        }
    }

    pub(super) fn insert(&mut self, first: u32, last: u32) {
        for_each_word(first, last, |index, mask| {
            if let Some(word) = self.words.get_mut(index) {
                *word |= mask;
            }
        });
    }
}

/// Calls `apply` with each word that holds bits of `first..=last`, and the mask of those bits.
fn for_each_word(first: u32, last: u32, mut apply: impl FnMut(usize, u64)) {
    for index in first / FILTER_WORD_BITS..=last / FILTER_WORD_BITS {
        let start = index * FILTER_WORD_BITS;
        let low = first.saturating_sub(start);
        let high = (last - start).min(FILTER_WORD_BITS - 1);
        let mask = (u64::MAX >> (FILTER_WORD_BITS - 1 - (high - low))) << low;
        apply(index as usize, mask);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A bit too few lets a blocked source in; a bit too many costs a look-up.
        #[test]
        fn words_cover_exactly_the_range(first in 0_u32..5_000, length in 0_u32..300) {
            let last = first + length;
            let mut bits = BTreeSet::new();
            for_each_word(first, last, |index, mask| {
                for bit in 0..FILTER_WORD_BITS {
                    if mask & (1 << bit) != 0 {
                        bits.insert(u32::try_from(index).expect("small") * FILTER_WORD_BITS + bit);
                    }
                }
            });
            prop_assert_eq!(bits, (first..=last).collect::<BTreeSet<_>>());
        }
    }
}
