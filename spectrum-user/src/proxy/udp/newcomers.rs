//! Sessions that may be evicted: their clients have not yet reacted to an origin, so that they may
//! be nobody (the source of a datagram is easily forged).

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
};

use super::session::Session;
use crate::proxy::clock::Moment;

/// Entries of sessions that are gone or proved, that may pile up before they are swept.
const SLACK: usize = 64;

/// The sessions of one app in one worker that have not proved to be real, about in the order in
/// which they were last used.
#[derive(Default)]
pub(in crate::proxy) struct Newcomers(RefCell<Queue>);

#[derive(Default)]
struct Queue {
    /// With the time of last use that gave the session its place.
    entries: VecDeque<(Weak<Session>, Moment)>,
    /// Of `entries`, after the last sweep.
    swept: usize,
}

impl Newcomers {
    pub(super) fn add(&self, session: &Rc<Session>) {
        let mut queue = self.0.borrow_mut();
        let entry = (Rc::downgrade(session), session.last_used());
        queue.entries.push_back(entry);
        if queue.entries.len() > 2 * queue.swept + SLACK {
            queue
                .entries
                .retain(|(session, _)| candidate(session).is_some());
            queue.swept = queue.entries.len();
        }
    }

    /// Ends the one that was not used for longest; false if there is none.
    pub(super) fn evict(&self) -> bool {
        let evicted = self.0.borrow_mut().take_oldest();
        // Not while the queue is borrowed.
        evicted.inspect(|session| session.evict()).is_some()
    }
}

impl Queue {
    fn take_oldest(&mut self) -> Option<Rc<Session>> {
        for _ in 0..self.entries.len() {
            let (entry, place) = self.entries.pop_front()?;
            let Some(session) = candidate(&entry) else {
                continue;
            };
            let last_used = session.last_used();
            if last_used == place {
                return Some(session);
            }
            self.entries.push_back((entry, last_used));
        }
        // All were used while we looked: the first is as good as any.
        let (entry, _) = self.entries.pop_front()?;
        candidate(&entry)
    }
}

fn candidate(session: &Weak<Session>) -> Option<Rc<Session>> {
    session.upgrade().filter(|session| session.may_be_evicted())
}
