//! Which verdicts become events, and which packets samples.

use spectrum_common::{event::EventBudget, sample::SamplePace, settings::Settings};

/// If a packet is to be sampled, how many packets the last sample stands for: itself and those that
/// came after it in its tick.
#[inline(always)]
pub fn weigh(pace: &mut SamplePace, jiffies: u64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ticks are told apart modulo 2^32"
    )]
    let tick = jiffies as u32;
    if pace.tick == tick {
        pace.since += 1;
        return None;
    }
    let weight = pace.since + 1;
    *pace = SamplePace { tick, since: 0 };
    Some(weight)
}

/// May this CPU send one more of the `per_second` events of the current second? Counts the packet
/// as skipped if not.
#[inline(always)]
pub fn admit(budget: &mut EventBudget, per_second: u32, settings: &Settings, jiffies: u64) -> bool {
    let age = jiffies.wrapping_sub(budget.window_start);
    if age >= u64::from(settings.ticks_per_second) {
        budget.window_start = jiffies;
        budget.sent_in_window = 0;
    }
    if budget.sent_in_window >= u64::from(per_second) {
        budget.skipped += 1;
        budget.suppressed += 1;
        return false;
    }
    budget.sent_in_window += 1;
    true
}

/// Notes that an event was sent; it has told of all packets since the last one.
#[inline(always)]
pub fn sent(budget: &mut EventBudget) {
    budget.sent += 1;
    budget.suppressed = 0;
}

/// Notes that an event found the ring buffer full.
#[inline(always)]
pub fn lost(budget: &mut EventBudget) {
    budget.lost += 1;
    budget.suppressed += 1;
}

#[cfg(test)]
mod sampling_test;
