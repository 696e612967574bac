//! Clients that wait for a place at one of the origins of a group, in the order in which they came.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use crate::proxy::line::{Line, Waiter};

/// Over all workers; it outlives changes of the settings.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Line>);

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Ticket<'a> {
    queue: &'a Queue,
    waiter: Arc<Waiter>,
}

impl Queue {
    /// At the end; `None` if `length` wait already.
    pub(super) fn join(&self, length: u32) -> Option<Ticket<'_>> {
        let mut line = self.line();
        if line.len() as u64 >= u64::from(length) {
            return None;
        }
        let waiter = Waiter::new();
        line.join(&waiter);
        Some(Ticket {
            queue: self,
            waiter,
        })
    }

    /// There may be a place: who comes first looks.
    pub(super) fn wake(&self) {
        self.line().wake_first();
    }

    pub(super) fn len(&self) -> usize {
        self.line().len()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Waits until this one is the first and `find` finds something.
    pub(in crate::proxy) async fn wait<T>(&self, mut find: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            // Before the look, so that no place which comes after it is missed.
            self.waiter.listen(cx.waker());
            let is_first = self.queue.line().is_first(&self.waiter);
            let found = if is_first { find() } else { None };
            found.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.line().leave(&self.waiter);
    }
}

#[cfg(test)]
mod tests;
