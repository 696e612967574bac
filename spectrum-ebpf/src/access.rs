//! Blocklists and allowlists: which entry holds for a source.

use spectrum_common::{
    access::{AccessEntry, AccessKey, FILTER_BITS, FILTER_WORD_BITS, SCOPE_BITS},
    address::Address,
};

use crate::tables::Tables;

/// Bits of a trie key that belong to no IPv4 prefix: those of the scope, and those that every
/// IPv4-mapped address shares.
const SCOPE_AND_MAPPED_BITS: u32 = SCOPE_BITS + 96;
const KEY_BITS: u32 = SCOPE_BITS + 128;

/// Expired prefixes around one address that are looked past. The daemon removes expired entries;
/// this many may gather there while it is down.
const MAX_EXPIRED: usize = 4;

/// Which filter an address is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// The bit that stands for an address in the filter in front of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterBit {
    pub family: Family,
    /// Below [`FILTER_BITS`].
    pub index: u32,
}

impl FilterBit {
    /// An IPv4 /24 has a bit of its own; an IPv6 /48 shares one with those of the same hash.
    #[inline(always)]
    pub const fn of(address: &Address) -> Self {
        if address.is_ipv4() {
            return Self {
                family: Family::Ipv4,
                index: address.low_bits() >> 8,
            };
        }
        // Fibonacci hashing: the golden ratio spreads the networks over the high bits.
        let hash = (address.high_bits() >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the index has as many bits as fit"
        )]
        let index = (hash >> (u64::BITS - FILTER_BITS.trailing_zeros())) as u32;
        Self {
            family: Family::Ipv6,
            index,
        }
    }

    /// The element of the filter that holds the bit.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.index / FILTER_WORD_BITS
    }

    /// The bit within that element.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.index % FILTER_WORD_BITS)
    }
}

/// May an entry of any scope cover this source? The answer "no" is certain, and nearly always it
/// is the answer.
#[inline(always)]
pub fn may_be_listed(tables: &impl Tables, source: &Address) -> bool {
    let bit = FilterBit::of(source);
    let is_unfiltered = bit.family == Family::Ipv6 && tables.settings().wide_ipv6_entries != 0;
    is_unfiltered || tables.access_filter(bit.family, bit.word()) & bit.mask() != 0
}

/// The action of the most specific entry of a scope that covers `source` and has not expired.
#[inline(always)]
pub fn listed_action(tables: &impl Tables, scope: u32, source: &Address) -> Option<u32> {
    let key = AccessKey {
        scope_be: scope.to_be(),
        address: *source,
    };
    match tables.access_host(&key) {
        Some(entry) if is_live(tables, &entry) => Some(entry.action),
        Some(_) | None => covering_action(tables, &key),
    }
}

/// The same, of prefixes alone.
#[inline(always)]
fn covering_action(tables: &impl Tables, key: &AccessKey) -> Option<u32> {
    let shortest = if key.address.is_ipv4() {
        // An IPv6 prefix short enough to cover all mapped addresses is not meant for IPv4.
        SCOPE_AND_MAPPED_BITS
    } else {
        SCOPE_BITS
    };
    let mut bits = KEY_BITS;
    for _ in 0..MAX_EXPIRED {
        let entry = tables.access_net(bits, key)?;
        if entry.prefix_length < shortest {
            return None;
        }
        if is_live(tables, &entry) {
            return Some(entry.action);
        }
        bits = entry.prefix_length - 1;
    }
    None
}

#[inline(always)]
fn is_live(tables: &impl Tables, entry: &AccessEntry) -> bool {
    entry.expires_s == 0 || tables.boot_seconds() < entry.expires_s
}
