//! Events must neither flood the daemon nor hide how much they leave out.

use super::*;

fn settings() -> Settings {
    Settings {
        ticks_per_second: 100,
        ..Settings::default()
    }
}

#[test]
fn a_second_has_its_budget_and_the_next_event_tells_of_the_rest() {
    let mut budget = EventBudget::default();
    let offer = |budget: &mut EventBudget, jiffies| {
        let admitted = admit(budget, 3, &settings(), jiffies);
        if admitted {
            sent(budget);
        }
        admitted
    };
    let start = 5000;
    let first_second = (0..10).filter(|_| offer(&mut budget, start)).count();
    assert_eq!(first_second, 3);
    assert_eq!((budget.sent, budget.skipped, budget.suppressed), (3, 7, 7));
    assert!(!offer(&mut budget, start + 99));
    assert!(offer(&mut budget, start + 100));
    assert_eq!((budget.sent, budget.skipped, budget.suppressed), (4, 8, 0));
}

#[test]
fn an_event_that_finds_no_room_is_counted() {
    let mut budget = EventBudget::default();
    assert!(admit(&mut budget, 3, &settings(), 5000));
    lost(&mut budget);
    assert_eq!((budget.sent, budget.lost, budget.suppressed), (0, 1, 1));
}

/// The samples of an app stand for all its packets, and are as many as the ticks at the most.
#[test]
fn a_tick_has_one_sample_and_the_next_says_what_it_stood_for() {
    let mut pace = SamplePace::default();
    let ticks = [7, 7, 7, 8, 9, 9, 12];
    let weights = ticks.map(|tick| weigh(&mut pace, tick));
    let expected = [Some(1), None, None, Some(3), Some(1), None, Some(2)];
    assert_eq!(weights, expected);
}
