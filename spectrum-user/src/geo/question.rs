//! What rules ask about where a source is.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::{Country, Place};

const WORDS: usize = Country::COUNT.div_ceil(64);

/// A question about a place. Two that have the same answer everywhere are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// Is its country one of these, a bit for each?
    Country([u64; WORDS]),
    /// Is its system one of these, or (`others`) none of them?
    Asn { among: BTreeSet<u32>, others: bool },
}

impl Question {
    /// Is the country one of these?
    pub fn countries(these: &[Country]) -> Self {
        let mut set = [0; WORDS];
        for country in these {
            insert(&mut set, country.number());
        }
        Self::Country(set)
    }

    /// Is the country refused: on `block`, or not on `allow`, if there is such a list?
    pub fn refused_countries(allow: &[Country], block: &[Country]) -> Self {
        let Self::Country(allowed) = Self::countries(allow) else {
            unreachable!("that is what it makes");
        };
        let mut set = [0; WORDS];
        for number in 0..Country::COUNT {
            let is_missed = !allow.is_empty() && !contains(&allowed, number);
            if is_missed || block.iter().any(|country| country.number() == number) {
                insert(&mut set, number);
            }
        }
        Self::Country(set)
    }

    /// Is the system one of these?
    pub fn asns(these: &[u32]) -> Self {
        Self::Asn {
            among: these.iter().copied().collect(),
            others: false,
        }
    }

    /// The same as [`Question::refused_countries`], for systems.
    pub fn refused_asns(allow: &[u32], block: &[u32]) -> Self {
        if allow.is_empty() {
            return Self::asns(block);
        }
        let admitted = allow.iter().filter(|asn| !block.contains(asn));
        Self::Asn {
            among: admitted.copied().collect(),
            others: true,
        }
    }

    pub fn is_about_countries(&self) -> bool {
        matches!(self, Self::Country(_))
    }

    /// Whether anybody knows of a place what is asked.
    pub fn is_known_of(&self, place: Place) -> bool {
        match self {
            Self::Country(_) => place.country != Country::UNKNOWN,
            Self::Asn { .. } => place.asn != 0,
        }
    }

    /// The answer for a place.
    pub fn answer(&self, place: Place) -> bool {
        match self {
            Self::Country(set) => contains(set, place.country.number()),
            Self::Asn { among, others } => among.contains(&place.asn) != *others,
        }
    }

    /// What tells it from others; never 0.
    pub fn identity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish().max(1)
    }
}

fn insert(set: &mut [u64; WORDS], number: usize) {
    if let Some(word) = set.get_mut(number / 64) {
        *word |= 1 << (number % 64);
    }
}

fn contains(set: &[u64; WORDS], number: usize) -> bool {
    set.get(number / 64)
        .is_some_and(|word| word >> (number % 64) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(code: &str) -> Country {
        Country::parse(code).expect(code)
    }

    fn place(code: &str, asn: u32) -> Place {
        Place {
            country: country(code),
            asn,
        }
    }

    /// What is not known is refused by a list of those who may come, and by no other.
    #[test]
    fn who_is_on_neither_list_comes_if_there_is_no_list_of_those_who_may() {
        let [de, at, kp] = ["DE", "AT", "KP"].map(country);
        for (allow, block, refused) in [
            (vec![de, at], vec![], vec!["KP", "XX", "FR"]),
            (vec![], vec![kp], vec!["KP"]),
            (vec![de, at], vec![at], vec!["AT", "KP", "XX", "FR"]),
            (vec![de, Country::UNKNOWN], vec![], vec!["AT", "KP", "FR"]),
        ] {
            let question = Question::refused_countries(&allow, &block);
            for code in ["DE", "AT", "KP", "FR", "XX"] {
                let expected = refused.contains(&code);
                assert_eq!(question.answer(place(code, 1)), expected, "{code}");
            }
        }
        for (allow, block, refused) in [
            (vec![1, 2], vec![], vec![0, 3]),
            (vec![], vec![3], vec![3]),
            (vec![1, 2], vec![2], vec![0, 2, 3]),
        ] {
            let question = Question::refused_asns(&allow, &block);
            for asn in 0..4 {
                let expected = refused.contains(&asn);
                assert_eq!(question.answer(place("DE", asn)), expected, "{asn}");
            }
        }
    }
}
