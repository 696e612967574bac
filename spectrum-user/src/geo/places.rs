//! What databases say, as runs of addresses that are in the same place.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
};

use super::{Country, Question};

/// Where addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub country: Country,
    /// 0: nobody knows.
    pub asn: u32,
}

impl Place {
    /// With what `other` knows and this one does not.
    fn or(self, other: Self) -> Self {
        Self {
            country: if self.country == Country::UNKNOWN {
                other.country
            } else {
                self.country
            },
            asn: if self.asn == 0 { other.asn } else { self.asn },
        }
    }
}

/// Addresses, from the first to the last, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
    pub place: Place,
}

/// The addresses from `first` to that of the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    /// The address's bits from the highest on: all of an IPv4 address, and the network of IPv6.
    pub(crate) first: u64,
    pub(crate) place: Place,
}

/// What one database says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Runs,
    v6: Runs,
    /// How many ranges it has.
    pub(super) count: usize,
}

impl Ranges {
    /// From ranges in the order of their addresses, IPv4 first. Where two overlap the first one
    /// holds, as it does for a /64 that two of IPv6 share.
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut all = Self::default();
        for range in ranges {
            let (first, _) = bits(range.first);
            let (_, last) = bits(range.last);
            let runs = if range.first.is_ipv4() {
                &mut all.v4
            } else {
                &mut all.v6
            };
            runs.push(first, last, range.place);
            all.count += 1;
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.runs.is_empty() && self.v6.runs.is_empty()
    }
}

/// The first and the last of the bits that stand for an address.
fn bits(ip: IpAddr) -> (u64, u64) {
    match ip {
        IpAddr::V4(v4) => {
            let high = u64::from(v4.to_bits()) << 32;
            (high, high | u64::from(u32::MAX))
        }
        IpAddr::V6(v6) => {
            let high = (v6.to_bits() >> 64) as u64;
            (high, high)
        }
    }
}

/// Runs of one family that follow each other, each in another place than the one before. What comes
/// before the first is in no place that anybody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Runs {
    runs: Vec<Run>,
    /// What is said of addresses below.
    end: u128,
}

impl Runs {
    fn push(&mut self, first: u64, last: u64, place: Place) {
        let Some(begins) = u64::try_from(self.end)
            .ok()
            .map(|end| first.max(end))
            .filter(|begins| *begins <= last)
        else {
            return;
        };
        // What was open behind the last one ends here.
        if self.runs.last().is_some_and(|run| run.first == begins) {
            self.runs.pop();
        }
        self.begin(begins, place);
        self.end = u128::from(last) + 1;
        if let Some(end) = last.checked_add(1) {
            self.begin(end, Place::default());
        }
    }

    fn begin(&mut self, first: u64, place: Place) {
        let before = self.runs.last().map(|run| run.place);
        if before.unwrap_or_default() != place {
            self.runs.push(Run { first, place });
        }
    }

    /// These, with what `others` know beyond.
    fn or(&self, others: &Self) -> Self {
        let mut merged = Self::default();
        let (mut these, mut those) = (self.runs.as_slice(), others.runs.as_slice());
        let (mut this, mut that) = (Place::default(), Place::default());
        loop {
            let firsts = [these.first(), those.first()].map(|run| run.map(|run| run.first));
            let Some(first) = firsts.into_iter().flatten().min() else {
                return merged;
            };
            let take = |runs: &mut &[Run], place: &mut Place| {
                if let Some((run, rest)) = runs.split_first()
                    && run.first == first
                {
                    *place = run.place;
                    *runs = rest;
                }
            };
            take(&mut these, &mut this);
            take(&mut those, &mut that);
            merged.begin(first, this.or(that));
        }
    }
}

/// What all databases say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    v4: Runs,
    v6: Runs,
    has_countries: bool,
    has_asns: bool,
    /// A database is missing, which may know of addresses that no other does.
    has_gaps: bool,
    digest: u64,
}

impl Places {
    /// Of two databases that know something of an address, the earlier is right.
    pub fn new<'a>(databases: impl IntoIterator<Item = &'a Ranges>) -> Self {
        let mut all = Self::default();
        for database in databases {
            all.v4 = all.v4.or(&database.v4);
            all.v6 = all.v6.or(&database.v6);
        }
        let mut hasher = DefaultHasher::new();
        (&all.v4, &all.v6).hash(&mut hasher);
        all.digest = hasher.finish();
        for run in all.v4.runs.iter().chain(&all.v6.runs) {
            all.has_countries |= run.place.country != Country::UNKNOWN;
            all.has_asns |= run.place.asn != 0;
        }
        all
    }

    /// The same without a database that should be there.
    pub fn with_gaps(self) -> Self {
        Self {
            has_gaps: true,
            digest: !self.digest,
            ..self
        }
    }

    /// The answer to a question for a place. While a database is missing, one that nobody knows is
    /// none that is asked for: else who is in one of the right places would be taken for a stranger.
    pub(crate) fn answer(&self, question: &Question, place: Place) -> bool {
        question.answer(place) && (!self.has_gaps || question.is_known_of(place))
    }

    pub fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// As if there were databases of countries and of autonomous systems.
    pub(crate) fn supposed() -> Self {
        Self {
            has_countries: true,
            has_asns: true,
            ..Self::default()
        }
    }

    /// Whether any database knows of countries.
    pub fn has_countries(&self) -> bool {
        self.has_countries
    }

    /// The same for autonomous systems.
    pub fn has_asns(&self) -> bool {
        self.has_asns
    }

    /// What tells these from others.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The runs of IPv4 and of IPv6, in their order.
    pub(crate) fn runs(&self) -> [&[Run]; 2] {
        [&self.v4.runs, &self.v6.runs]
    }

    /// Where an address is.
    pub fn find(&self, ip: IpAddr) -> Place {
        let [v4, v6] = self.runs();
        let runs = if ip.is_ipv4() { v4 } else { v6 };
        let (bits, _) = bits(ip);
        let after = runs.partition_point(|run| run.first <= bits);
        let run = after.checked_sub(1).and_then(|index| runs.get(index));
        run.map(|run| run.place).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "places_test.rs"]
mod places_test;
