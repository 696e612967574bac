//! Events must neither flood the daemon nor hide how much they leave out.

use super::*;

fn settings() -> Settings {
    Settings {
        ticks_per_second: 100,
        events_per_second: 3,
        ..Settings::default()
    }
}

#[test]
fn a_second_has_its_budget_and_the_next_event_tells_of_the_rest() {
    let mut budget = EventBudget::default();
    let offer = |budget: &mut EventBudget, jiffies| {
        let admitted = admit(budget, &settings(), jiffies);
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
    assert!(admit(&mut budget, &settings(), 5000));
    lost(&mut budget);
    assert_eq!((budget.sent, budget.lost, budget.suppressed), (0, 1, 1));
}
