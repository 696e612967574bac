//! The bitmap in front of the lists, as shared memory.
//!
//! The map is an array with `BPF_F_MMAPABLE` (kernel 5.5): a bit is set with one atomic operation
//! and two mebibytes are compared without a system call for each word.

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use spectrum_common::{access::FILTER_WORD_BITS, maps::size::FILTER_WORDS};

use super::error::Error;

const BYTES: NonZeroUsize = NonZeroUsize::new(FILTER_WORDS * size_of::<u64>()).expect("not empty");

/// One of the two filter maps.
pub(super) struct FilterBits {
    words: NonNull<AtomicU64>,
}

// SAFETY: the memory is shared with the kernel anyway, and only touched atomically.
unsafe impl Send for FilterBits {}
// SAFETY: as above.
unsafe impl Sync for FilterBits {}

impl FilterBits {
    /// Maps the array `name` into memory; the mapping keeps the map alive.
    pub(super) fn map(name: &'static str, map: &Map) -> Result<Self, Error> {
        let Map::Array(data) = map else {
            return Err(Error::Missing(name));
        };
        check_length(name, data)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of the length of the map.
        let memory = unsafe { mmap(None, BYTES, protection, MapFlags::MAP_SHARED, data.fd(), 0) }
            .map_err(Error::system("cannot map the access filter into memory"))?;
        Ok(Self {
            words: memory.cast(),
        })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this length and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), FILTER_WORDS) }
    }

    /// Element `index` of the map; 0 if there is none.
    pub(super) fn word(&self, index: u32) -> u64 {
        let word = self.words().get(index as usize);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets the bits `first..=last`.
    pub(super) fn insert(&self, first: u32, last: u32) {
        for_each_word(first, last, |index, mask| {
            if let Some(word) = self.words().get(index) {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        });
    }

    /// Makes the filter equal to `wanted`, writing only the words that differ.
    pub(super) fn replace(&self, wanted: &Bits) {
        for (word, &wanted) in self.words().iter().zip(&wanted.words) {
            if word.load(Ordering::Relaxed) != wanted {
                word.store(wanted, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for FilterBits {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; no reference to it outlives `self`.
        let unmapped = unsafe { munmap(self.words.cast(), BYTES.get()) };
        debug_assert!(unmapped.is_ok());
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

fn check_length(name: &'static str, data: &MapData) -> Result<(), Error> {
    let info = data.info().map_err(Error::map(name, "look at it"))?;
    let bytes = info.value_size() as usize * info.max_entries() as usize;
    if bytes == BYTES.get() {
        Ok(())
    } else {
        Err(Error::Missing(name))
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
