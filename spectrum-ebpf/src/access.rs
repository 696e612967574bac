//! Blocklists and allowlists: which entry holds for a source.

use spectrum_common::{
    access::{AccessEntry, AccessKey, FILTER_BITS, FILTER_WORD_BITS, SCOPE_BITS, action},
    address::Address,
    settings::Settings,
};

/// Bits of a trie key that belong to no IPv4 prefix: those of the scope, and those that every
/// IPv4-mapped address shares.
const SCOPE_AND_MAPPED_BITS: u32 = SCOPE_BITS + 96;
const KEY_BITS: u32 = SCOPE_BITS + 128;

/// Expired prefixes around one address that are looked past. The daemon removes expired entries;
/// this many may gather there while it is down.
const MAX_EXPIRED: usize = 4;

/// The lists, element by element.
pub trait Lists {
    /// Word `word` of a filter; 0 if there is none.
    fn filter(&self, family: Family, word: u32) -> u64;

    /// The entry for exactly this address.
    fn host(&self, key: &AccessKey) -> Option<AccessEntry>;

    /// The entry of the longest prefix that covers the address and has at most `bits` bits, those
    /// of the scope included.
    fn net(&self, bits: u32, key: &AccessKey) -> Option<AccessEntry>;

    /// Seconds since boot, the clock of [`AccessEntry::expires_s`].
    fn boot_seconds(&self) -> u32;
}

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
pub fn may_be_listed(lists: &impl Lists, settings: &Settings, source: &Address) -> bool {
    let bit = FilterBit::of(source);
    let is_unfiltered = bit.family == Family::Ipv6 && settings.wide_ipv6_entries != 0;
    is_unfiltered || lists.filter(bit.family, bit.word()) & bit.mask() != 0
}

/// What a scope says of a source.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Nowhere,
    Blocked,
    Allowed,
}

impl Listed {
    #[inline(always)]
    const fn by(entry: &AccessEntry) -> Self {
        match entry.action {
            action::BLOCK => Self::Blocked,
            action::ALLOW => Self::Allowed,
            _ => Self::Nowhere,
        }
    }
}

/// What the most specific entry of a scope that covers `source` and has not expired says.
#[inline(always)]
pub fn look_up(lists: &impl Lists, scope: u32, source: &Address) -> Listed {
    let key = AccessKey {
        scope_be: scope.to_be(),
        address: *source,
    };
    match lists.host(&key) {
        Some(entry) if is_live(lists, &entry) => Listed::by(&entry),
        Some(_) | None => look_up_prefixes(lists, &key),
    }
}

#[inline(always)]
fn look_up_prefixes(lists: &impl Lists, key: &AccessKey) -> Listed {
    let shortest = if key.address.is_ipv4() {
        // An IPv6 prefix short enough to cover all mapped addresses is not meant for IPv4.
        SCOPE_AND_MAPPED_BITS
    } else {
        SCOPE_BITS
    };
    let mut bits = KEY_BITS;
    for _ in 0..=MAX_EXPIRED {
        let Some(entry) = lists.net(bits, key) else {
            break;
        };
        if entry.prefix_length < shortest {
            break;
        }
        if is_live(lists, &entry) {
            return Listed::by(&entry);
        }
        bits = entry.prefix_length - 1;
    }
    Listed::Nowhere
}

#[inline(always)]
fn is_live(lists: &impl Lists, entry: &AccessEntry) -> bool {
    entry.expires_s == 0 || lists.boot_seconds() < entry.expires_s
}

#[cfg(test)]
mod access_test;
