//! Too late, and the flood reaches the kernel; too long, and clients go without some options.

use proptest::prelude::*;

use super::*;

const TICKS: u32 = 250;
const ABOVE: u32 = 1000;

fn app(challenge: u32) -> App {
    App {
        challenge,
        challenge_above: ABOVE,
        challenge_below: ABOVE / 2,
        ..App::default()
    }
}

/// Plays `seconds` with `per_second` SYNs each, evenly spread, and says whether the last was answered.
fn play(state: &mut Challenge, jiffies: &mut u64, seconds: u32, per_second: u32) -> bool {
    let mut answered = false;
    for _ in 0..seconds * TICKS {
        *jiffies += 1;
        let second = u64::from(TICKS);
        let due = |at: u64| at % second * u64::from(per_second) / second;
        let next = (*jiffies % second + 1) * u64::from(per_second) / second;
        for _ in due(*jiffies)..next {
            answered = observe(state, &app(challenge::AUTO), *jiffies, TICKS);
        }
    }
    answered
}

proptest! {
    #[test]
    fn a_flood_switches_it_on_within_a_second_and_its_end_off(
        flood in 3 * ABOVE..50 * ABOVE,
        quiet in 1..ABOVE / 2 - 10,
    ) {
        let mut state = Challenge::default();
        let mut jiffies = 1_000_000;
        prop_assert!(!play(&mut state, &mut jiffies, 3, quiet));
        prop_assert!(play(&mut state, &mut jiffies, 1, flood));
        prop_assert!(play(&mut state, &mut jiffies, QUIET_SECONDS - 2, quiet), "too early");
        prop_assert!(!play(&mut state, &mut jiffies, 4, quiet), "too late");
    }

    /// Between the two thresholds nothing changes, whichever way it was.
    #[test]
    fn what_it_is_it_stays_between_the_thresholds(rate in ABOVE / 2 + 10..ABOVE - 10) {
        let mut state = Challenge::default();
        let mut jiffies = 1_000_000;
        prop_assert!(!play(&mut state, &mut jiffies, 30, rate));
        prop_assert!(play(&mut state, &mut jiffies, 1, 5 * ABOVE));
        prop_assert!(play(&mut state, &mut jiffies, 30, rate));
    }
}

#[test]
fn the_flood_is_answered_from_the_first_syn_above_the_threshold() {
    let mut state = Challenge::default();
    let answers: u32 = (0..ABOVE + 5)
        .map(|_| u32::from(observe(&mut state, &app(challenge::AUTO), 7, TICKS)))
        .sum();
    assert_eq!(answers, 5);
    assert_eq!(state.since, 7);
}

#[test]
fn always_is_always() {
    let mut state = Challenge::default();
    for jiffies in [1, 2, 1_000_000] {
        assert!(observe(&mut state, &app(challenge::ALWAYS), jiffies, TICKS));
    }
}

#[test]
fn who_looks_sees_what_the_next_syn_will_meet() {
    let mut state = Challenge::default();
    let auto = app(challenge::AUTO);
    assert_eq!(since(&state, &auto, 9, TICKS), None);
    assert_eq!(since(&state, &app(challenge::ALWAYS), 9, TICKS), Some(9));
    for _ in 0..=ABOVE {
        observe(&mut state, &auto, 7, TICKS);
    }
    assert_eq!(since(&state, &auto, 9, TICKS), Some(7));
    assert_eq!(since(&state, &app(challenge::NEVER), 9, TICKS), None);
    let long_after = 7 + u64::from(QUIET_SECONDS * TICKS);
    assert_eq!(since(&state, &auto, long_after, TICKS), None);
}

/// An answer that the kernel takes for a stray segment is worse than none.
#[test]
fn nothing_is_answered_unless_listeners_were_marked_lately() {
    let ready = Handshake {
        marked: 1000,
        abilities: ability::ANSWER,
        ..Handshake::default()
    };
    let lasts = u64::from(MARK_SECONDS * TICKS);
    assert!(can_answer(&ready, 1000 + lasts - 1, TICKS));
    assert!(!can_answer(&ready, 1000 + lasts, TICKS));
    assert!(!can_answer(&Handshake { marked: 0, ..ready }, 1001, TICKS));
    let unable = Handshake {
        abilities: ability::SACK,
        ..ready
    };
    assert!(!can_answer(&unable, 1001, TICKS));
}
