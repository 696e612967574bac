//! Turns: every origin as often as its weight says, and as evenly as can be.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{candidates::Candidates, mix::mix};
use crate::config::Member;

/// The order of smooth weighted round-robin, written down once, so that a turn costs one addition
/// and workers share nothing else.
///
/// Leaving out the turns of origins that are not candidates leaves the others in their order and
/// proportion.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Indices of origins.
    turns: Box<[u8]>,
    turn: AtomicUsize,
}

impl Schedule {
    pub(super) fn new(members: &[Member]) -> Self {
        let weights = reduced(members);
        let total: i64 = weights.iter().sum();
        let mut credits = vec![0; weights.len()];
        let turn = |_| {
            for (credit, weight) in credits.iter_mut().zip(&weights) {
                *credit += weight;
            }
            // Of equals, the first.
            let (next, credit) = (0_u8..)
                .zip(&mut credits)
                .reduce(|best, other| if *other.1 > *best.1 { other } else { best })?;
            *credit -= total;
            Some(next)
        };
        Self {
            turns: (0..total).filter_map(turn).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The candidate whose turn it is. It is nobody's turn where there is no choice.
    pub(super) fn next(&self, candidates: &Candidates<'_>) -> Option<usize> {
        if let Some(only) = candidates.only() {
            return Some(only);
        }
        let mut lot = 0;
        for _ in 0..self.turns.len() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            lot = mix(turn as u64);
            let index = usize::from(*self.turns.get(turn % self.turns.len())?);
            if candidates.takes(index, lot) {
                return Some(index);
            }
        }
        candidates.any(lot)
    }
}

/// The weights, divided by what they have in common.
pub(super) fn reduced(members: &[Member]) -> Vec<i64> {
    let common = members
        .iter()
        .fold(0, |common, member| divisor(common, member.weight.max(1)));
    let reduced = members
        .iter()
        .map(|member| i64::from(member.weight.max(1) / common));
    reduced.collect()
}

/// The greatest that divides both (Euclid).
fn divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { divisor(b, a % b) }
}
