//! Who waits for something that is shared, in the order in which they came.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
};

/// Only the first may take; whoever leaves the first place wakes the next.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Arc<Waiter>>);

/// Somebody who may stand in one line at a time.
#[derive(Debug)]
pub(super) struct Waiter(Mutex<Waker>);

impl Waiter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waker::noop().clone())))
    }

    /// Has `waker` woken from now on. To be called before the look at what is waited for.
    pub(super) fn listen(&self, waker: &Waker) {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone_from(waker);
    }

    fn wake(&self) {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.wake_by_ref();
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_first(&self, waiter: &Arc<Waiter>) -> bool {
        let first = self.0.front();
        first.is_some_and(|first| Arc::ptr_eq(first, waiter))
    }

    /// At the end.
    pub(super) fn join(&mut self, waiter: &Arc<Waiter>) {
        self.0.push_back(Arc::clone(waiter));
    }

    pub(super) fn leave(&mut self, waiter: &Arc<Waiter>) {
        if self.is_first(waiter) {
            self.0.pop_front();
            self.wake_first();
        } else {
            self.0.retain(|other| !Arc::ptr_eq(other, waiter));
        }
    }

    pub(super) fn wake_first(&self) {
        if let Some(first) = self.0.front() {
            first.wake();
        }
    }
}
