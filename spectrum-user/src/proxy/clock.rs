//! A clock cheap enough to be read for every message, and what is measured with it.

use std::{cell::Cell, future, time::Duration};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Milliseconds of `CLOCK_MONOTONIC_COARSE`: a read costs no system call and lags by one kernel
/// tick (1 to 10 ms) at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn now() -> Self {
        // The kernel has had this clock since 2.6.32, and the call has no other way to fail.
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
            .map(|time| Self::from(Duration::from(time)))
            .unwrap_or_default()
    }

    /// Zero if `earlier` is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn plus(self, span: Duration) -> Self {
        Self::from(Duration::from_millis(self.0) + span)
    }

    /// As a number that fits into an atomic; never 0.
    pub(super) fn to_bits(self) -> u64 {
        self.0.max(1)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<Duration> for Moment {
    fn from(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`; costs no system call either, but some ten times as much.
pub(super) fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let now = now.unwrap_or_default().as_nanos();
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// Returns after this time; never, if there is none.
pub(super) async fn after(time: Option<Duration>) {
    match time {
        // Apart, so that who has no time to wait for stays small.
        Some(time) => Box::pin(tokio::time::sleep(time)).await,
        None => future::pending().await,
    }
}

/// Notices when nothing has happened for a while. Activity costs one read of the clock; the timer
/// is armed again only when it fires.
#[derive(Debug)]
pub(super) struct Idle {
    timeout: Duration,
    last: Cell<Moment>,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            last: Cell::new(Moment::now()),
        }
    }

    /// As one that was last [touched](Self::touch) then.
    pub(super) fn since(timeout: Duration, last: Moment) -> Self {
        Self {
            timeout,
            last: Cell::new(last),
        }
    }

    pub(super) fn touch(&self) {
        self.last.set(Moment::now());
    }

    /// Something has happened at that moment, unless something has since.
    pub(super) fn touch_at(&self, then: Moment) {
        self.last.set(self.last.get().max(then));
    }

    /// When [`touch`](Self::touch) was last called.
    pub(super) fn last(&self) -> Moment {
        self.last.get()
    }

    /// Returns once `timeout` has passed without a touch.
    pub(super) async fn expired(&self) {
        loop {
            let quiet = Moment::now().since(self.last.get());
            let Some(left) = self
                .timeout
                .checked_sub(quiet)
                .filter(|left| !left.is_zero())
            else {
                return;
            };
            tokio::time::sleep(left).await;
        }
    }
}
