//! Blocklists and allowlists, as tables that user space builds and the program reads.
//!
//! Nearly every source is answered by one bit of the *hints*, an array that has always the same size
//! and place. For the others, a few bits more say which prefix lengths are worth a look. A bit that is
//! set promises nothing, one that is not is certain: while one table of entries takes the place of
//! another, the bits of both are set.
//!
//! | words of the hints | what |
//! |---|---|
//! | [`FILTER_WORDS`] | IPv4: a bit for each /24 that an entry touches |
//! | [`FILTER_WORDS`] | IPv6: a bit for each hash of a /48 or /32 that an entry touches |
//! | [`REGION_WORDS_V4`] | 32 bits for each /16: the lengths of prefixes up to /16 |
//! | [`NEAR_WORDS_V4`] | 16 bits for each /24, some of which share them: the lengths of longer prefixes |
//! | [`REGION_WORDS_V6`] | 128 bits for each hash of a /32 |
//!
//! The *entries* lie in lines as long as those of the processor's cache, and each look reads one or
//! two:
//!
//! | lines | what |
//! |---|---|
//! | 1 | [`header`] |
//! | as many as the header says | entries of IPv4, four to a line |
//! | as many as the header says | entries of IPv6, two to a line |
//!
//! A table without entries is its header alone.

/// The scope of entries that hold for all apps. The scope of an app is its slot.
pub const GLOBAL_SCOPE: u32 = 0;

/// An element of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub words: [u64; LINE_WORDS],
}

pub const LINE_WORDS: usize = 8;

/// Words of the first line.
pub mod header {
    /// Seed of the hash over entries, so that collisions cannot be aimed.
    pub const SEED: usize = 0;
    /// Lines of IPv4 entries.
    pub const LINES_V4: usize = 1;
    /// Lines of IPv6 entries.
    pub const LINES_V6: usize = 2;
    /// Entries in the table, those of the operator that have expired included.
    pub const ENTRIES: usize = 3;
    /// Digest of the lists that the table was built from, for whoever would build it again.
    pub const DIGEST: usize = 4;
    /// Counts the changes of the operator's entries, for whoever would look through all of them.
    pub const CHANGES: usize = 5;
}

/// Where the lines of entries begin.
pub const FIRST_ENTRIES: u32 = 1;

/// What an entry says: four bits for the lists, four for the operator.
pub mod action {
    pub const NONE: u32 = 0;
    pub const BLOCK: u32 = 1;
    pub const ALLOW: u32 = 2;
}

/// Bits of a filter: one for each IPv4 /24.
pub const FILTER_BITS: u32 = 1 << 24;
/// 2 MiB.
pub const FILTER_WORDS: u32 = FILTER_BITS / u64::BITS;

/// Regions of a family: one for each IPv4 /16.
pub const REGIONS: u32 = 1 << 16;
/// 256 KiB.
pub const REGION_WORDS_V4: u32 = REGIONS * 32 / u64::BITS;
/// 1 MiB.
pub const REGION_WORDS_V6: u32 = REGIONS * 128 / u64::BITS;

/// What is said of longer IPv4 prefixes: so many /24s are told apart.
pub const NEAR: u32 = 1 << 20;
/// 2 MiB.
pub const NEAR_WORDS_V4: u32 = NEAR * 16 / u64::BITS;

/// Words of the hints.
pub const HINT_WORDS: usize = first_word::END as usize;

/// Where the parts of the hints begin.
pub mod first_word {
    use super::{FILTER_WORDS, NEAR_WORDS_V4, REGION_WORDS_V4, REGION_WORDS_V6};

    pub const FILTER_V4: u32 = 0;
    pub const FILTER_V6: u32 = FILTER_V4 + FILTER_WORDS;
    pub const REGIONS_V4: u32 = FILTER_V6 + FILTER_WORDS;
    pub const NEAR_V4: u32 = REGIONS_V4 + REGION_WORDS_V4;
    pub const REGIONS_V6: u32 = NEAR_V4 + NEAR_WORDS_V4;
    pub const END: u32 = REGIONS_V6 + REGION_WORDS_V6;
}
