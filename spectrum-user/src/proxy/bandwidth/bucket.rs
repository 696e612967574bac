//! A token bucket that many may draw on, in turn.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::proxy::line::{Line, Waiter};

const SECOND: u64 = 1_000_000_000;

/// What may pass at once is a quarter of a second's worth, and always the largest datagram.
const BURST_PARTS: u64 = 4;
const LEAST_BURST: u64 = 64 * 1024;

/// A read of less than a hundredth of a second's worth waits for more, within these bounds: small
/// ones cost as much as large ones.
const LEAST_PARTS: u64 = 100;
const LEAST: (u64, u64) = (1024, 16 * 1024);

/// In any time, no more passes than its rate allows, and one burst.
#[derive(Debug)]
pub(super) struct Bucket(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Bytes per second; `None`: everything passes.
    rate: Option<u64>,
    /// Billionths of a byte, so that nothing is lost in rounding.
    tokens: u64,
    /// When they were counted, in nanoseconds.
    at: u64,
    line: Line,
}

/// Why nothing is granted. Who asked stands in the line now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is the first in the line, and asks again after this time.
    For(Duration),
    /// It will be woken when it is the first.
    Turn,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Option<u64>, now: u64) -> Self {
        Self(Mutex::new(State {
            rate,
            tokens: burst(rate) * SECOND,
            at: now,
            line: Line::default(),
        }))
    }

    /// Changes the rate. Who waits is asked to look again.
    pub(super) fn set_rate(&self, rate: Option<u64>, now: u64) {
        let mut state = self.state(now);
        if state.rate == rate {
            return;
        }
        if state.rate.is_none() {
            state.tokens = u64::MAX;
        }
        state.rate = rate;
        state.tokens = state.tokens.min(burst(rate) * SECOND);
        state.line.wake_first();
    }

    /// Takes tokens for up to `most` bytes, at least 1. `waiter` is in this line if `is_in_line`,
    /// and in none otherwise.
    pub(super) fn take(
        &self,
        most: u64,
        now: u64,
        waiter: &Arc<Waiter>,
        is_in_line: bool,
    ) -> Result<u64, Wait> {
        let mut state = self.state(now);
        let is_next = match is_in_line {
            true => state.line.is_first(waiter),
            false => state.line.is_empty(),
        };
        let wait = match state.missing(most) {
            _ if !is_next => Some(Wait::Turn),
            missing => missing.map(Wait::For),
        };
        if let Some(wait) = wait {
            if !is_in_line {
                state.line.join(waiter);
            }
            return Err(wait);
        }
        // All who wait get as much, as far as it is worth a read.
        let sharers = state.line.len() as u64 + u64::from(!is_in_line);
        let share = (state.bytes() / sharers.max(1)).max(state.least(most));
        let granted = state.take(most.min(share));
        if is_in_line {
            state.line.leave(waiter);
        }
        Ok(granted)
    }

    /// Takes tokens for up to `most` bytes, perhaps none, and waits for nothing.
    pub(super) fn take_now(&self, most: u64, now: u64) -> u64 {
        self.state(now).take(most)
    }

    /// Takes tokens back that were not used.
    pub(super) fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut state = self.lock();
        let tokens = state.tokens.saturating_add(bytes.saturating_mul(SECOND));
        state.tokens = tokens.min(burst(state.rate) * SECOND);
        state.line.wake_first();
    }

    /// Whether `waiter`, who stands in the line, is the first of it.
    pub(super) fn is_first(&self, waiter: &Arc<Waiter>) -> bool {
        self.lock().line.is_first(waiter)
    }

    pub(super) fn leave(&self, waiter: &Arc<Waiter>) {
        self.lock().line.leave(waiter);
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&self, now: u64) -> bool {
        let state = self.state(now);
        state.tokens >= burst(state.rate) * SECOND
    }

    /// With the tokens of now.
    fn state(&self, now: u64) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.refill(now);
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes.
fn burst(rate: Option<u64>) -> u64 {
    rate.map_or(0, |rate| (rate / BURST_PARTS).max(LEAST_BURST))
}

impl State {
    fn refill(&mut self, now: u64) {
        // Another thread may have looked at the clock later, and been here earlier.
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        if let Some(rate) = self.rate {
            let most = u128::from(burst(self.rate)) * u128::from(SECOND);
            let tokens = u128::from(self.tokens) + u128::from(rate) * u128::from(passed);
            self.tokens = u64::try_from(tokens.min(most)).unwrap_or(u64::MAX);
        }
    }

    fn bytes(&self) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) => self.tokens / SECOND,
        }
    }

    /// The fewest bytes that are worth a read of up to `most`.
    fn least(&self, most: u64) -> u64 {
        let rate = self.rate.unwrap_or_default();
        (rate / LEAST_PARTS).clamp(LEAST.0, LEAST.1).min(most)
    }

    /// How long until that many are there; `None` if they are.
    fn missing(&self, most: u64) -> Option<Duration> {
        let rate = self.rate?;
        let missing = (self.least(most) * SECOND).checked_sub(self.tokens)?;
        let time = missing.div_ceil(rate);
        (time > 0).then(|| Duration::from_nanos(time))
    }

    fn take(&mut self, most: u64) -> u64 {
        let granted = most.min(self.bytes());
        if self.rate.is_some() {
            self.tokens -= granted * SECOND;
        }
        granted
    }
}

#[cfg(test)]
mod tests;
