//! Which verdicts become events.

use spectrum_common::{event::EventBudget, settings::Settings};

/// May this CPU send one more event in the current second? Counts the packet as skipped if not.
#[inline(always)]
pub fn admit(budget: &mut EventBudget, settings: &Settings, jiffies: u64) -> bool {
    let age = jiffies.wrapping_sub(budget.window_start);
    if age >= u64::from(settings.ticks_per_second) {
        budget.window_start = jiffies;
        budget.sent_in_window = 0;
    }
    if budget.sent_in_window >= u64::from(settings.events_per_second) {
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
