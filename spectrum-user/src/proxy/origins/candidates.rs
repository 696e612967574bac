//! Origins among which one connection has the choice.

use std::time::Duration;

use super::{Peer, mix::below};
use crate::proxy::clock::Moment;

pub(super) struct Candidates<'a> {
    peers: &'a [Peer],
    /// A bit for each origin that is one.
    those: u64,
    now: Moment,
    slow_start: Duration,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(peers: &'a [Peer], those: u64, now: Moment, slow_start: Duration) -> Self {
        Self {
            peers,
            those,
            now,
            slow_start,
        }
    }

    /// The one, where there is no choice.
    pub(super) fn only(&self) -> Option<usize> {
        (self.those.count_ones() == 1).then(|| self.those.trailing_zeros() as usize)
    }

    /// Any of them, the same for the same `key`.
    pub(super) fn any(&self, key: u64) -> Option<usize> {
        let count = self.those.count_ones() as usize;
        self.each().nth(below(key, count)).map(|(index, _)| index)
    }

    /// Whether `index` is one, and takes the connection: while it starts slowly, only those whose
    /// `lot` is below its part.
    pub(super) fn takes(&self, index: usize, lot: u64) -> bool {
        let is_one = self.those >> index & 1 == 1;
        is_one
            && self
                .peers
                .get(index)
                .is_some_and(|peer| lot % 100 < u64::from(self.percent(peer)))
    }

    /// Those with the fewest connections for their weight.
    pub(super) fn with_fewest_connections(&self) -> Self {
        self.with_least(|peer| {
            let share = u64::from(peer.member.weight) * u64::from(self.percent(peer));
            // Exact enough: a share is at most 25,600.
            (u64::from(peer.state.active()) << 32) / share.max(1)
        })
    }

    /// Those that are reached the soonest, or that nobody has measured yet.
    pub(super) fn with_lowest_latency(&self) -> Self {
        self.with_least(|peer| peer.state.connect_us().unwrap_or(0))
    }

    fn with_least(&self, measure: impl Fn(&Peer) -> u64) -> Self {
        let mut least = u64::MAX;
        let mut those = 0;
        for (index, peer) in self.each() {
            let measured = measure(peer);
            if measured < least {
                (least, those) = (measured, 0);
            }
            if measured == least {
                those |= 1 << index;
            }
        }
        Self { those, ..*self }
    }

    fn each(&self) -> impl Iterator<Item = (usize, &'a Peer)> {
        let those = self.those;
        let peers = self.peers.iter().enumerate();
        peers.filter(move |(index, _)| those >> index & 1 == 1)
    }

    fn percent(&self, peer: &Peer) -> u32 {
        peer.state.percent(self.now, self.slow_start)
    }
}
