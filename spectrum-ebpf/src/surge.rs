//! When there is more of something than an app should get, and until when.

use spectrum_common::{
    app::App,
    surge::{QUIET_SECONDS, Surge},
};

/// How much of it is too much.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    above: u32,
}

impl Threshold {
    /// Of SYNs: above it they are answered with cookies.
    #[inline(always)]
    pub const fn of_syns(app: &App) -> Self {
        Self {
            above: app.challenge_above,
        }
    }

    /// Of TCP segments that belong to no connection: above it the rule applies.
    #[inline(always)]
    pub const fn of_strays(app: &App) -> Self {
        Self {
            above: app.out_of_state_above,
        }
    }

    /// A surge that has begun goes on while there is more than half of what begins one.
    #[inline(always)]
    const fn renewed_above(self) -> u64 {
        self.above as u64 / 2
    }
}

/// Counts one more, and says whether it comes in a surge: one begins when there are more than the
/// threshold in a second, and is over when there have been no more than half of that in any second for
/// [`QUIET_SECONDS`]. Above a threshold of 0, everything does.
///
/// `jiffies` is the kernel's clock, in ticks.
#[inline(always)]
pub fn observe(
    surge: &mut Surge,
    threshold: Threshold,
    jiffies: u64,
    ticks_per_second: u32,
) -> bool {
    // In a surge that is known to last, nobody writes: all CPUs would meet in this one line.
    if surge.since != 0 && surge.renewed == jiffies {
        return true;
    }
    if jiffies.wrapping_sub(surge.second_began) >= u64::from(ticks_per_second) {
        surge.second_began = jiffies;
        surge.count = 0;
    }
    if surge.since != 0 && !lasts(surge, jiffies, ticks_per_second) {
        surge.since = 0;
    }
    surge.count += 1;
    if surge.count > threshold.renewed_above() {
        surge.renewed = jiffies;
    }
    if surge.since == 0 && surge.count > threshold.above.into() {
        surge.since = jiffies;
    }
    surge.since != 0
}

/// Was there last too much so short ago that the surge is not over?
#[inline(always)]
const fn lasts(surge: &Surge, jiffies: u64, ticks_per_second: u32) -> bool {
    let quiet = QUIET_SECONDS as u64 * ticks_per_second as u64;
    jiffies.saturating_sub(surge.renewed) < quiet
}

/// Jiffies since when a surge has lasted, for those who only look; `None` if the next one will not be
/// in any.
pub const fn since(
    surge: &Surge,
    threshold: Threshold,
    jiffies: u64,
    ticks_per_second: u32,
) -> Option<u64> {
    if surge.since != 0 && (threshold.above == 0 || lasts(surge, jiffies, ticks_per_second)) {
        Some(surge.since)
    } else if threshold.above == 0 {
        // There may not have been any yet.
        Some(jiffies)
    } else {
        None
    }
}

#[cfg(test)]
mod surge_test;
