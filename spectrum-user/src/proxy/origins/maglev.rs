//! Each source has its origin: Maglev hashing (Eisenbud et al. 2016, section 3.4), with weights.

use std::net::IpAddr;

use sha2::Digest as _;

use super::{
    candidates::Candidates,
    mix::{below, mix},
    schedule::reduced,
};
use crate::{
    config::{Member, Origin},
    proxy::limits,
};

/// A prime, as the method wants it, and large enough for 64 origins to get their shares to within
/// a few per cent.
const SIZE: usize = 65_537;

/// Probes of a source whose origin is no candidate, before it gets any.
const PROBES: u64 = 256;

/// A table in which every origin has its share of the places. When origins come or go, few places
/// change hands; it is the same on every edge that has the same origins, in whatever order.
///
/// It is made of all origins, candidates or not: while one is away, its sources alone look
/// elsewhere, each by a sequence of its own, and return when it does.
#[derive(Debug)]
pub(super) struct Maglev {
    places: Box<[u8]>,
}

impl Maglev {
    pub(super) fn new(members: &[Member]) -> Self {
        let mut preferences: Vec<_> = (0_u8..)
            .zip(members)
            .zip(reduced(members))
            .map(|((index, member), weight)| Preference::new(index, &member.origin, weight))
            .collect();
        preferences.sort_by_key(|preference| preference.order);
        let mut places = vec![None; SIZE];
        let mut free = SIZE;
        while free > 0 && !preferences.is_empty() {
            for preference in &mut preferences {
                for _ in 0..preference.weight.min(free) {
                    preference.take(&mut places);
                    free -= 1;
                }
            }
        }
        Self {
            places: places.into_iter().flatten().collect(),
        }
    }

    /// The candidate that belongs to `source`.
    pub(super) fn find(&self, candidates: &Candidates<'_>, source: IpAddr) -> Option<usize> {
        let key = key(source);
        if let Some(only) = candidates.only() {
            return Some(only);
        }
        for probe in 0..PROBES {
            let place = mix(key ^ probe);
            let index = usize::from(*self.places.get(below(place, self.places.len()))?);
            if candidates.takes(index, mix(place)) {
                return Some(index);
            }
        }
        candidates.any(key)
    }
}

/// The order in which an origin wants the places: every one once.
struct Preference {
    index: u8,
    /// Places in each round.
    weight: usize,
    order: [u8; 32],
    next: usize,
    skip: usize,
}

impl Preference {
    fn new(index: u8, origin: &Origin, weight: i64) -> Self {
        let name = format!("{} {}", origin.ip, origin.first_port);
        let order: [u8; 32] = sha2::Sha256::digest(name.as_bytes()).into();
        let (offset, rest) = order.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().take(8).fold(0, |n, &b| n << 8 | u64::from(b));
        Self {
            index,
            weight: usize::try_from(weight).unwrap_or(1),
            next: below(number(offset), SIZE),
            skip: below(number(rest), SIZE - 1) + 1,
            order,
        }
    }

    /// Takes the first place it wants that is free; there has to be one.
    fn take(&mut self, places: &mut [Option<u8>]) {
        for _ in 0..SIZE {
            let place = places.get_mut(self.next);
            self.next = (self.next + self.skip) % SIZE;
            if let Some(free @ None) = place {
                *free = Some(self.index);
                return;
            }
        }
    }
}

/// Who counts as one source everywhere (IPv6: a /64) has one origin.
fn key(source: IpAddr) -> u64 {
    match limits::source(source) {
        IpAddr::V4(ip) => mix(u64::from(ip.to_bits())),
        IpAddr::V6(ip) => {
            let segments = ip.segments().into_iter();
            segments.fold(0, |key, segment| mix(key ^ u64::from(segment)))
        }
    }
}
