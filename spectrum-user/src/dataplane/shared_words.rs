//! An array of 64-bit words in memory that is shared with the kernel, or may be.
//!
//! The map has `BPF_F_MMAPABLE` (kernel 5.5): a word is changed with one atomic operation, and
//! mebibytes are compared without a system call for each word.

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::Map;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::error::Error;

/// The elements of a map, one after the other.
pub(super) struct SharedWords {
    words: NonNull<AtomicU64>,
    count: usize,
    bytes: NonZeroUsize,
}

// SAFETY: the memory may be shared with the kernel anyway, and is only touched atomically.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the array `name` of `count` words into memory; the mapping keeps the map alive.
    pub(super) fn map(name: &'static str, map: &Map, count: usize) -> Result<Self, Error> {
        let Map::Array(data) = map else {
            return Err(Error::Missing(name));
        };
        let info = data.info().map_err(Error::map(name, "look at it"))?;
        let held = info.value_size() as usize * info.max_entries() as usize;
        let bytes = NonZeroUsize::new(count * size_of::<u64>()).filter(|bytes| bytes.get() == held);
        let bytes = bytes.ok_or(Error::Missing(name))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of the length of the map.
        let memory = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, data.fd(), 0) }
            .map_err(Error::system("cannot map an array into memory"))?;
        Ok(Self {
            words: memory.cast(),
            count,
            bytes,
        })
    }

    /// So many zeros for this process alone. Not from its heap, which would keep mebibytes that are
    /// needed for the moment of a reload.
    pub(super) fn private(count: usize) -> Result<Self, Error> {
        let bytes = NonZeroUsize::new(count * size_of::<u64>()).ok_or(Error::Missing("words"))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE) }
            .map_err(Error::system("cannot get memory for a table"))?;
        Ok(Self {
            words: memory.cast(),
            count,
            bytes,
        })
    }

    pub(super) fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this length and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }

    /// Word `index`; 0 if there is none.
    pub(super) fn get(&self, index: usize) -> u64 {
        let word = self.all().get(index);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Changes word `index`, if there is one.
    pub(super) fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.all().get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made for it; no reference to it outlives `self`.
        let unmapped = unsafe { munmap(self.words.cast(), self.bytes.get()) };
        debug_assert!(unmapped.is_ok());
    }
}
