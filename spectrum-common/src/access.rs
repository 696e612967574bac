//! Blocklists and allowlists, as one table that user space builds and the program reads.
//!
//! The table is an array of lines as long as those of the processor's cache. Nearly every source
//! is answered by one bit of a filter; for the others, a word per region says which prefix lengths
//! are worth a look, and each look reads one or two lines:
//!
//! | lines | what |
//! |---|---|
//! | 1 | [`header`] |
//! | [`FILTER_LINES`] | IPv4: a bit for each /24 that an entry touches |
//! | [`FILTER_LINES`] | IPv6: a bit for each hash of a /48 or /32 that an entry touches |
//! | [`REGION_LINES_V4`] | 32 bits for each /16: the lengths of the prefixes there |
//! | [`REGION_LINES_V6`] | 128 bits for each hash of a /32 |
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
}

/// What an entry says: four bits for the lists, four for the operator.
pub mod action {
    pub const NONE: u32 = 0;
    pub const BLOCK: u32 = 1;
    pub const ALLOW: u32 = 2;
}

/// Bits of a filter: one for each IPv4 /24.
pub const FILTER_BITS: u32 = 1 << 24;
/// Bits of a line.
pub const LINE_BITS: u32 = 512;
/// Lines of a filter; 2 MiB.
pub const FILTER_LINES: u32 = FILTER_BITS / LINE_BITS;

/// Regions of a family: one for each IPv4 /16.
pub const REGIONS: u32 = 1 << 16;
/// 256 KiB.
pub const REGION_LINES_V4: u32 = REGIONS * 32 / LINE_BITS;
/// 1 MiB.
pub const REGION_LINES_V6: u32 = REGIONS * 128 / LINE_BITS;

/// Where the parts of the table begin.
pub mod first_line {
    use super::{FILTER_LINES, REGION_LINES_V4, REGION_LINES_V6};

    pub const HEADER: u32 = 0;
    pub const FILTER_V4: u32 = 1;
    pub const FILTER_V6: u32 = FILTER_V4 + FILTER_LINES;
    pub const REGIONS_V4: u32 = FILTER_V6 + FILTER_LINES;
    pub const REGIONS_V6: u32 = REGIONS_V4 + REGION_LINES_V4;
    pub const ENTRIES: u32 = REGIONS_V6 + REGION_LINES_V6;
}
