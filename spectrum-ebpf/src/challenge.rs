//! When an app's SYNs are answered with cookies.

use spectrum_common::{
    app::App,
    handshake::{Challenge, Handshake, MARK_SECONDS, QUIET_SECONDS, ability, challenge},
};

/// Counts a SYN to an app, and says whether the app's SYNs are to be answered: while there are more
/// than [`App::challenge_above`] in a second, and until there have been no more than
/// [`App::challenge_below`] in any second for [`QUIET_SECONDS`].
///
/// `jiffies` is the kernel's clock, in ticks.
#[inline(always)]
pub fn observe(state: &mut Challenge, app: &App, jiffies: u64, ticks_per_second: u32) -> bool {
    let second = u64::from(ticks_per_second);
    if jiffies.wrapping_sub(state.second_began) >= second {
        state.second_began = jiffies;
        state.syns = 0;
    }
    state.syns += 1;
    if state.syns > app.challenge_below.into() {
        state.flooded = jiffies;
    }
    if state.since == 0 {
        if app.challenge == challenge::ALWAYS || state.syns > app.challenge_above.into() {
            state.since = jiffies;
        }
    } else if app.challenge != challenge::ALWAYS && !goes_on(state, jiffies, ticks_per_second) {
        state.since = 0;
    }
    state.since != 0
}

/// May SYNs be answered at all? Only while the kernel takes the answers to the answers.
#[inline(always)]
pub const fn can_answer(handshake: &Handshake, jiffies: u64, ticks_per_second: u32) -> bool {
    let lasts = MARK_SECONDS as u64 * ticks_per_second as u64;
    let is_marked = handshake.marked != 0 && jiffies.saturating_sub(handshake.marked) < lasts;
    is_marked && handshake.abilities & ability::ANSWER != 0
}

/// Was the last flood so short ago that SYNs are still answered?
#[inline(always)]
const fn goes_on(state: &Challenge, jiffies: u64, ticks_per_second: u32) -> bool {
    let quiet = QUIET_SECONDS as u64 * ticks_per_second as u64;
    jiffies.saturating_sub(state.flooded) < quiet
}

/// Jiffies since when an app's SYNs have been answered, for those who only look; `None` if the next
/// one will not be.
pub fn since(state: &Challenge, app: &App, jiffies: u64, ticks_per_second: u32) -> Option<u64> {
    let answers = match app.challenge {
        challenge::ALWAYS => true,
        challenge::AUTO => state.since != 0 && goes_on(state, jiffies, ticks_per_second),
        _ => false,
    };
    // An app that is always challenged may not have had a SYN yet.
    answers.then_some(if state.since == 0 {
        jiffies
    } else {
        state.since
    })
}

#[cfg(test)]
mod challenge_test;
