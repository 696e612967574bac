//! Blocklists and allowlists: which entry holds for a source.
//!
//! The layout of the tables is that of [`spectrum_common::access`]; where things lie in them is said
//! here alone, for the program that reads and for the daemon that writes.

use core::borrow::Borrow as _;

use spectrum_common::{
    access::{FILTER_BITS, FIRST_ENTRIES, Line, NEAR, REGIONS, action, first_word, header},
    address::Address,
};

pub mod entry;

use entry::{Entry, Key};

/// The tables: hints word by word, entries line by line.
pub trait Lists {
    /// A word of the hints.
    fn hint(&self, word: u32) -> u64;

    /// A line of the table in use; `None` beyond its end.
    fn line(&self, index: u32) -> Option<impl core::borrow::Borrow<Line>>;

    /// See [`value_v6`].
    fn value_v6(&self, seed: u64, key: Key, choice: usize) -> u64 {
        value_v6(self, seed, key, choice)
    }

    /// Seconds since boot, the clock of [`Entry::expires_s`].
    fn boot_seconds(&self) -> u32;
}

/// A word of the hints, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub word: u32,
    pub shift: u32,
}

impl Place {
    /// Bit `bit` of the part that begins at `first`.
    #[inline(always)]
    const fn of_bit(first: u32, bit: u32) -> Self {
        Self {
            word: first + bit / u64::BITS,
            shift: bit % u64::BITS,
        }
    }

    #[inline(always)]
    const fn next_word(self) -> Self {
        Self {
            word: self.word + 1,
            ..self
        }
    }

    #[inline(always)]
    const fn at(self, shift: u32) -> Self {
        Self { shift, ..self }
    }

    #[inline(always)]
    fn read(self, hint: impl Fn(u32) -> u64) -> u64 {
        hint(self.word) >> self.shift
    }
}

/// The filters' bits.
pub mod filter {
    use super::*;

    /// The bit of an IPv4 /24.
    #[inline(always)]
    pub const fn v4(network: u32) -> Place {
        Place::of_bit(first_word::FILTER_V4, network >> 8)
    }

    /// The bit of an IPv6 /48 or /32, by the bits of the network: /48s and /32s share one filter.
    #[inline(always)]
    pub const fn v6(network: u64) -> Place {
        Place::of_bit(
            first_word::FILTER_V6,
            spread(network) >> (32 - FILTER_BITS.trailing_zeros()),
        )
    }
}

/// The words that say which lengths the prefixes of a region have. The longest is the lowest bit;
/// the shortest length, 0, shares the bit of 1.
pub mod region {
    use super::*;

    /// The 32 bits for an IPv4 /16, of which prefixes up to that use the upper half.
    #[inline(always)]
    pub const fn v4(address: u32) -> Place {
        Place::of_bit(first_word::REGIONS_V4, (address >> 16) * 32)
    }

    /// The 16 bits for an IPv4 /24, for longer prefixes.
    #[inline(always)]
    pub const fn near_v4(address: u32) -> Place {
        Place::of_bit(first_word::NEAR_V4, (address >> 8) % NEAR * 16)
    }

    /// The longest prefix for which the bits of a /16 are.
    pub const SHORT_V4: u32 = 16;

    /// The first 64 of the 128 bits for an IPv6 /32.
    #[inline(always)]
    pub const fn v6(network: u64) -> Place {
        let region = spread(network >> 32) >> (32 - REGIONS.trailing_zeros());
        Place::of_bit(first_word::REGIONS_V6, region * 128)
    }

    /// The bit of a length, of those that a word from `longest` down has.
    #[inline(always)]
    pub const fn bit(longest: u32, length: u32) -> u32 {
        longest - if length == 0 { 1 } else { length }
    }
}

/// Fibonacci hashing: the golden ratio spreads networks over the high bits.
#[inline(always)]
const fn spread(network: u64) -> u32 {
    (network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// May an entry of any scope cover this source? The answer "no" is certain, and nearly always it
/// is the answer. `hint` says the words of the hints.
#[inline(always)]
pub fn may_be_listed(hint: impl Fn(u32) -> u64, source: &Address) -> bool {
    if source.is_ipv4() {
        return filter::v4(source.low_bits()).read(hint) & 1 != 0;
    }
    let network = source.high_bits();
    let places = [network >> 16, network >> 32];
    places
        .iter()
        .any(|&network| filter::v6(network).read(&hint) & 1 != 0)
}

/// The line of [`header`].
const HEADER: u32 = 0;

/// What a scope says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Nowhere,
    Blocked,
    Allowed,
}

/// Another table has taken the place of the one that was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced;

/// What the most specific entry of a scope that covers `source` and has not expired says, by the
/// table with the seed `seed`.
///
/// # Errors
/// Another table is in use.
#[inline(always)]
pub fn look_up(
    lists: &impl Lists,
    seed: u64,
    scope: u32,
    source: &Address,
) -> Result<Listed, Replaced> {
    if source.is_ipv4() {
        return Ok(look_up_v4(lists, scope, source.low_bits()));
    }
    for part in 0..PARTS_V6 {
        let listed = look_up_v6(lists, seed, scope, source.halves(), part)?;
        if listed != Listed::Nowhere {
            return Ok(listed);
        }
    }
    Ok(Listed::Nowhere)
}

/// The same for an IPv4 address.
#[inline(always)]
pub fn look_up_v4(lists: &impl Lists, scope: u32, address: u32) -> Listed {
    let Some(first) = lists.line(HEADER) else {
        return Listed::Nowhere;
    };
    let words = &first.borrow().words;
    let (seed, count) = (words[header::SEED], words[header::LINES_V4]);
    let near = region::near_v4(address).read(|word| lists.hint(word)) & 0xffff;
    let far = region::v4(address).read(|word| lists.hint(word)) & 0xffff_0000;
    let lengths = near | far;
    let shortest = lengths >> region::bit(32, 0) << u32::BITS;
    let listed = longest_first::<33>(lists, lengths | shortest, 32, |length| {
        value_v4(lists, seed, count, Key::v4(scope, address, length))
    });
    listed.unwrap_or(Listed::Nowhere)
}

/// The lengths of IPv6 prefixes, cut into words: 128 to 65, 64 to 1, and 0.
pub const PARTS_V6: u32 = 3;

/// The same for an IPv6 address, given as its two halves, and the entries of some lengths.
///
/// # Errors
/// As [`look_up`].
#[inline(always)]
pub fn look_up_v6(
    lists: &impl Lists,
    seed: u64,
    scope: u32,
    halves: [u64; 2],
    part: u32,
) -> Result<Listed, Replaced> {
    let [network, _] = halves;
    let place = region::v6(network);
    let (place, longest) = match part {
        0 => (place, 128),
        1 => (place.next_word(), 64),
        _ => (place.next_word().at(region::bit(64, 0)), 0),
    };
    longest_first::<64>(
        lists,
        place.read(|word| lists.hint(word)),
        longest,
        |length| {
            let key = Key::v6(scope, halves, length);
            match lists.value_v6(seed, key, 0) {
                ABSENT => lists.value_v6(seed, key, 1),
                value => value,
            }
        },
    )
}

/// Asks for the value of each length that there is a bit for, from `longest` down, until one says
/// something. There are `MOST` lengths.
#[inline(always)]
fn longest_first<const MOST: u32>(
    lists: &impl Lists,
    lengths: u64,
    longest: u32,
    value: impl Fn(u32) -> u64,
) -> Result<Listed, Replaced> {
    let mut rest = lengths;
    for _ in 0..MOST {
        if rest == 0 {
            break;
        }
        if let Some(listed) = Listed::by(value(longest - rest.trailing_zeros()), lists)? {
            return Ok(listed);
        }
        rest &= rest - 1;
    }
    Ok(Listed::Nowhere)
}

impl Listed {
    /// By the word of an entry.
    #[inline(always)]
    fn by(value: u64, lists: &impl Lists) -> Result<Option<Self>, Replaced> {
        if value == REPLACED {
            return Err(Replaced);
        }
        let entry = Entry::from_bits(value);
        let is_over = entry.expires_s != 0 && lists.boot_seconds() >= entry.expires_s;
        let action = if entry.operator == action::NONE || is_over {
            entry.listed
        } else {
            entry.operator
        };
        Ok(match action {
            action::BLOCK => Some(Self::Blocked),
            action::ALLOW => Some(Self::Allowed),
            _ => None,
        })
    }
}

/// There is no such entry.
pub const ABSENT: u64 = 0;
/// The value of no entry.
const REPLACED: u64 = u64::MAX;

/// The word of an IPv4 entry, for [`Entry::from_bits`], in a table with the seed `seed` and so many
/// lines of IPv4 entries.
#[inline(always)]
fn value_v4(lists: &impl Lists, seed: u64, count: u64, key: Key) -> u64 {
    let [tag, ..] = key.words();
    for line in key.lines(seed, FIRST_ENTRIES, count) {
        let Some(line) = lists.line(line) else { break };
        // To the end of the line: each way out of the middle is one more for the verifier to follow.
        let [a, of_a, b, of_b, c, of_c, d, of_d] = &line.borrow().words;
        let mut found = ABSENT;
        for (other, value) in [(a, of_a), (b, of_b), (c, of_c), (d, of_d)] {
            if *other == tag {
                found = *value;
            }
        }
        if found != ABSENT {
            return found;
        }
    }
    ABSENT
}

/// The word of an IPv6 entry in the table with the seed `seed`, in the first or second of the lines that
/// may hold it.
#[inline(always)]
pub fn value_v6(lists: &(impl Lists + ?Sized), seed: u64, key: Key, choice: usize) -> u64 {
    let Some(first) = lists.line(HEADER) else {
        return ABSENT;
    };
    let words = &first.borrow().words;
    if words[header::SEED] != seed {
        return REPLACED;
    }
    let [tag, high, low] = key.words();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "lines are counted in 32 bits"
    )]
    let first = FIRST_ENTRIES + words[header::LINES_V4] as u32;
    let [one, other] = key.lines(seed, first, words[header::LINES_V6]);
    let Some(line) = lists.line(if choice == 0 { one } else { other }) else {
        return ABSENT;
    };
    let [a, of_a, high_a, low_a, b, of_b, high_b, low_b] = &line.borrow().words;
    for (tag_of, value, high_of, low_of) in [(a, of_a, high_a, low_a), (b, of_b, high_b, low_b)] {
        if *tag_of == tag && *high_of == high && *low_of == low {
            return *value;
        }
    }
    ABSENT
}

/// What tells the table in use from others.
#[inline(always)]
pub fn seed(lists: &impl Lists) -> u64 {
    let line = lists.line(HEADER);
    line.map_or(0, |line| line.borrow().words[header::SEED])
}

#[cfg(test)]
mod access_test;
