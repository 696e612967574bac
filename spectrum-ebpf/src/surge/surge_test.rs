//! Too late, and the flood reaches the kernel; too long, and clients go without what it costs them.

use proptest::prelude::*;

use super::*;

const TICKS: u32 = 250;
const ABOVE: u32 = 1000;

const MANY: Threshold = Threshold { above: ABOVE };
const ANY: Threshold = Threshold { above: 0 };

/// Plays `seconds` with `per_second` packets each, evenly spread, and says whether the last was one of a surge.
fn play(state: &mut Surge, jiffies: &mut u64, seconds: u32, per_second: u32) -> bool {
    let mut surges = false;
    for _ in 0..seconds * TICKS {
        *jiffies += 1;
        let second = u64::from(TICKS);
        let due = |at: u64| at % second * u64::from(per_second) / second;
        let next = (*jiffies % second + 1) * u64::from(per_second) / second;
        for _ in due(*jiffies)..next {
            surges = observe(state, MANY, *jiffies, TICKS);
        }
    }
    surges
}

proptest! {
    #[test]
    fn a_flood_switches_it_on_within_a_second_and_its_end_off(
        flood in 3 * ABOVE..50 * ABOVE,
        quiet in 1..ABOVE / 2 - 10,
    ) {
        let mut state = Surge::default();
        let mut jiffies = 1_000_000;
        prop_assert!(!play(&mut state, &mut jiffies, 3, quiet));
        prop_assert!(play(&mut state, &mut jiffies, 1, flood));
        prop_assert!(play(&mut state, &mut jiffies, QUIET_SECONDS - 2, quiet), "too early");
        prop_assert!(!play(&mut state, &mut jiffies, 4, quiet), "too late");
    }

    /// Between the two thresholds nothing changes, whichever way it was.
    #[test]
    fn what_it_is_it_stays_between_the_thresholds(rate in ABOVE / 2 + 10..ABOVE - 10) {
        let mut state = Surge::default();
        let mut jiffies = 1_000_000;
        prop_assert!(!play(&mut state, &mut jiffies, 30, rate));
        prop_assert!(play(&mut state, &mut jiffies, 1, 5 * ABOVE));
        prop_assert!(play(&mut state, &mut jiffies, 30, rate));
    }
}

#[test]
fn a_surge_begins_with_the_first_packet_above_the_threshold() {
    let mut state = Surge::default();
    let surging: u32 = (0..ABOVE + 5)
        .map(|_| u32::from(observe(&mut state, MANY, 7, TICKS)))
        .sum();
    assert_eq!(surging, 5);
    assert_eq!(state.since, 7);
}

/// However low the threshold: half of it may be nothing.
#[test]
fn one_packet_renews_no_surge_that_is_over() {
    const TWO: Threshold = Threshold { above: 1 };
    let mut state = Surge::default();
    assert!(!observe(&mut state, TWO, 7, TICKS));
    assert!(observe(&mut state, TWO, 7, TICKS));
    let an_hour_later = 7 + u64::from(3600 * TICKS);
    assert!(!observe(&mut state, TWO, an_hour_later, TICKS));
}

#[test]
fn above_nothing_is_always() {
    let mut state = Surge::default();
    for jiffies in [1, 2, 1_000_000] {
        assert!(observe(&mut state, ANY, jiffies, TICKS));
    }
}

#[test]
fn who_looks_sees_what_the_next_packet_will_meet() {
    let mut state = Surge::default();
    assert_eq!(since(&state, MANY, 9, TICKS), None);
    assert_eq!(since(&state, ANY, 9, TICKS), Some(9));
    for _ in 0..=ABOVE {
        observe(&mut state, MANY, 7, TICKS);
    }
    assert_eq!(since(&state, MANY, 9, TICKS), Some(7));
    let long_after = 7 + u64::from(QUIET_SECONDS * TICKS);
    assert_eq!(since(&state, MANY, long_after, TICKS), None);
}
