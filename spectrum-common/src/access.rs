//! Blocklists and allowlists.

use crate::address::Address;

/// The scope of entries that hold for all apps. The scope of an app is its slot.
pub const GLOBAL_SCOPE: u32 = 0;

/// Bits of [`AccessKey::scope_be`], which come before the bits of the address in a prefix length.
pub const SCOPE_BITS: u32 = 32;

/// An address within a scope: the key of `access_hosts`, and the data of the trie key of
/// `access_nets` (whose prefix length counts from the first bit of the scope).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccessKey {
    pub scope_be: u32,
    pub address: Address,
}

/// What [`AccessEntry::action`] can be.
pub mod action {
    pub const BLOCK: u32 = 1;
    pub const ALLOW: u32 = 2;
}

/// Who made an entry: what [`AccessEntry::origin`] can be.
pub mod origin {
    /// The documents; replaced when they change.
    pub const DOCUMENT: u32 = 1;
    /// `spectrum block` or `spectrum allow`; kept until it expires or is undone.
    pub const OPERATOR: u32 = 2;
}

/// One entry of a list. Times are seconds since boot (`CLOCK_BOOTTIME`,
/// `bpf_ktime_get_boot_ns`, kernel 5.8).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessEntry {
    /// [`action`].
    pub action: u32,
    /// [`origin`].
    pub origin: u32,
    pub added_s: u32,
    /// The entry has no effect from this second on; 0 = never expires.
    pub expires_s: u32,
    /// Bits of the prefix in the trie key, those of the scope included (an address: all), so that
    /// a lookup can go on to a shorter prefix when this one has expired.
    pub prefix_length: u32,
}

/// The filter in front of the lists: one bit for each IPv4 /24 (map `access_filter_v4`), and one
/// for each hash of an IPv6 /48 (map `access_filter_v6`). A clear bit says that no entry of any
/// scope covers an address there; a set bit says nothing.
pub const FILTER_BITS: u32 = 1 << 24;

/// Bits in an element of a filter map.
pub const FILTER_WORD_BITS: u32 = 64;
