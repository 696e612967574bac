//! How a client and an origin take turns, and what that says of the client.
//!
//! Anyone can forge the source of a datagram, but then the answers go to somebody else. A client
//! that goes on after them, and goes on for a while, either gets them, or is an attacker who sends
//! blindly and keeps at it from the same source: whom the limits per source hold.

use std::{cell::Cell, time::Duration};

use serde::{Deserialize, Serialize};

use crate::proxy::clock::Moment;

/// An exchange proves the client after so many answers to which it has reacted,
const TURNS: u32 = 3;
/// and this long after its first datagram.
const SPAN: Duration = Duration::from_secs(2);

/// A client that goes on is reported again this often.
const RENEWAL: Duration = Duration::from_mins(5);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::proxy) struct Exchange {
    began: Moment,
    is_answered: Cell<bool>,
    turns: Cell<u32>,
    reported: Cell<Option<Moment>>,
}

impl Exchange {
    pub(super) fn begin(now: Moment) -> Self {
        Self {
            began: now,
            is_answered: Cell::new(false),
            turns: Cell::new(0),
            reported: Cell::new(None),
        }
    }

    /// The origin has sent something.
    pub(super) fn answer(&self) {
        self.is_answered.set(true);
    }

    /// The client has sent something. Returns whether it is to be reported as proved now.
    pub(super) fn hear(&self, now: Moment) -> bool {
        if !self.is_answered.replace(false) {
            return false;
        }
        self.turns.set(self.turns.get().saturating_add(1));
        let is_due = match self.reported.get() {
            None => self.turns.get() >= TURNS && now.since(self.began) >= SPAN,
            Some(last) => now.since(last) >= RENEWAL,
        };
        if is_due {
            self.reported.set(Some(now));
        }
        is_due
    }

    /// Whether the client has proved to be real.
    pub(super) fn is_proof(&self) -> bool {
        self.reported.get().is_some()
    }

    /// Whether the client has ever reacted to an answer.
    pub(super) fn is_two_way(&self) -> bool {
        self.turns.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from(Duration::from_secs(1000 + seconds))
    }

    #[test]
    fn who_only_sends_proves_nothing() {
        let exchange = Exchange::begin(at(0));
        assert!((0..10_000).all(|second| !exchange.hear(at(second))));
        assert!(!exchange.is_two_way());
    }

    #[test]
    fn one_answer_is_one_turn_however_much_follows() {
        let exchange = Exchange::begin(at(0));
        exchange.answer();
        assert!((0..10_000).all(|second| !exchange.hear(at(second))));
        assert!(exchange.is_two_way());
    }

    #[test]
    fn turns_over_time_prove_the_client_and_renew_it() {
        let exchange = Exchange::begin(at(0));
        let turn = |second| {
            exchange.answer();
            exchange.hear(at(second))
        };
        assert!((0..10).all(|_| !turn(1)), "too quick");
        assert!(turn(2));
        assert!((3..=301).all(|second| !turn(second)), "reported already");
        assert!(turn(302));
        assert!(!turn(303));
    }
}
