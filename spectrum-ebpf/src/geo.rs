//! Countries and autonomous systems: what holds for a source.
//!
//! The table's layout is that of [`spectrum_common::geo`]. Whoever reads it holds one table from
//! beginning to end, and no word of it changes once the program has been told of it.
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "parts of words that are as wide as they need to be; indexes are kept within a line"
)]

use core::borrow::Borrow as _;

use spectrum_common::{
    access::Line,
    address::Address,
    app::{App, mode},
    geo::{Answers, CHILD, CLASSES_PER_LINE, NODE, first_line, link, node},
    reason::Reason,
};

/// A table, line by line.
pub trait Places {
    /// `None` beyond its end.
    fn line(&self, index: u32) -> Option<impl core::borrow::Borrow<Line>>;
}

/// Bits of an address that the root looks at, and each node below.
const ROOT_BITS: u32 = 16;
const NODE_BITS: u32 = 8;

/// Nodes on the way to a /64.
const DEPTH: u32 = (u64::BITS - ROOT_BITS) / NODE_BITS;

/// The answers to all questions about `source`, of which IPv6 has the upper half looked at.
#[inline(always)]
pub fn find(places: &impl Places, source: &Address) -> Answers {
    let (root, bits) = if source.is_ipv4() {
        (first_line::ROOT_V4, u64::from(source.low_bits()) << 32)
    } else {
        (first_line::ROOT_V6, source.high_bits())
    };
    let mut entry = root_entry(places, root, bits >> (u64::BITS - ROOT_BITS));
    let mut rest = bits << ROOT_BITS;
    for _ in 0..DEPTH {
        if entry & NODE == 0 {
            break;
        }
        entry = step(places, entry & !NODE, rest >> (u64::BITS - NODE_BITS));
        rest <<= NODE_BITS;
    }
    answers(places, entry)
}

/// Whether the answer to a question is yes.
#[inline(always)]
pub const fn says(answers: &Answers, question: u32) -> bool {
    let word = answers.words[(question / u64::BITS % 2) as usize];
    word >> (question % u64::BITS) & 1 != 0
}

/// What an app's rules on countries and systems say of a source, as one: the first that enforces, or
/// else the first that only watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objection {
    /// [`mode`]; `OFF`: they have no objection.
    pub mode: u32,
    /// Whether it is the system, and not the country.
    pub is_asn: bool,
}

impl Objection {
    /// To a source, by the answers about it; none to one that is exempt.
    #[inline(always)]
    pub const fn to(answers: &Answers, is_exempt: bool, app: &App) -> Self {
        if is_exempt {
            return Self {
                mode: mode::OFF,
                is_asn: false,
            };
        }
        let country = if says(answers, app.refused_countries) {
            app.countries
        } else {
            mode::OFF
        };
        let asn = if says(answers, app.refused_asns) {
            app.asns
        } else {
            mode::OFF
        };
        let is_asn = asn > country;
        Self {
            mode: if is_asn { asn } else { country },
            is_asn,
        }
    }

    /// Itself as a number, for functions that can return nothing else.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.mode << 1 | self.is_asn as u32
    }

    /// The objection of [`Objection::to_bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            mode: bits >> 1,
            is_asn: bits & 1 != 0,
        }
    }

    #[inline(always)]
    pub const fn reason(self) -> Reason {
        if self.is_asn {
            Reason::Asn
        } else {
            Reason::Country
        }
    }
}

#[inline(always)]
fn root_entry(places: &impl Places, first: u32, index: u64) -> u32 {
    let index = index as u32;
    half(word(places, first + index / 16, index % 16 / 2), index)
}

/// The half of a word that the lowest bit of `index` says.
#[inline(always)]
const fn half(word: u64, index: u32) -> u32 {
    (word >> (index % 2 * u32::BITS)) as u32
}

/// From a node to what comes below network `slot` of its 256.
#[inline(always)]
fn step(places: &impl Places, index: u32, slot: u64) -> u32 {
    let Some(line) = places.line(index) else {
        return 0;
    };
    let words = &line.borrow().words;
    let of_slot = slot / 64;
    let bits = words[node::BITS + (of_slot % 4) as usize];
    let link = words[node::LINK];
    let ones_before = ((link & !link::SPILL_MASK) >> (of_slot * 8)) & 0xff;
    // The first network begins a run: there is a one.
    let run = ones_before + ones(bits & (u64::MAX >> (63 - slot % 64))) - 1;
    let spilled = link & link::SPILL_MASK;
    let base = (link >> link::BASE_SHIFT) as u32;
    let value = if spilled == 0 {
        value(words[(node::VALUES as u64 + run / 4) as usize % 8], run)
    } else {
        let line = base + (run / node::PER_LINE as u64) as u32;
        let of_line = run % node::PER_LINE as u64;
        value(word(places, line, (of_line / 4) as u32), run)
    };
    if value & u32::from(CHILD) == 0 {
        return value;
    }
    NODE | (base + spilled as u32 + (value & !u32::from(CHILD)))
}

/// One of the four values in a word.
#[inline(always)]
const fn value(word: u64, run: u64) -> u32 {
    (word >> (run % 4 * 16)) as u32 & 0xffff
}

/// How many bits are ones (Warren, Hacker's Delight 5-1): BPF has no instruction for it.
#[inline(always)]
const fn ones(word: u64) -> u64 {
    let pairs = word - ((word >> 1) & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
    let eights = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    eights.wrapping_mul(0x0101_0101_0101_0101) >> 56
}

#[inline(always)]
fn answers(places: &impl Places, class: u32) -> Answers {
    let line = places.line(first_line::CLASSES + class / CLASSES_PER_LINE);
    let Some(line) = line else {
        return Answers::default();
    };
    let words = &line.borrow().words;
    let first = (class % CLASSES_PER_LINE * 2) as usize;
    Answers {
        words: [words[first], words[first + 1]],
    }
}

/// A word of a line; 0 if there is none.
#[inline(always)]
fn word(places: &impl Places, line: u32, word: u32) -> u64 {
    let line = places.line(line);
    let word = line.and_then(|line| line.borrow().words.get(word as usize).copied());
    word.unwrap_or(0)
}

#[cfg(test)]
mod geo_test;
