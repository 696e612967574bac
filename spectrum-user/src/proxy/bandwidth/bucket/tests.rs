#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Wake, Waker},
};

use proptest::prelude::*;

use super::*;

/// Somebody who always wants more.
struct Hungry {
    waiter: Arc<Waiter>,
    woken: Arc<Flag>,
    /// When it looks again by itself.
    timer: Option<u64>,
    is_in_line: bool,
    /// Grants to each of the others since it joined the line.
    overtaken: Vec<u32>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Hungry {
    fn new(others: usize) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waiter = Waiter::new();
        waiter.listen(&Waker::from(Arc::clone(&woken)));
        Self {
            waiter,
            woken,
            timer: None,
            is_in_line: false,
            overtaken: vec![0; others],
        }
    }
}

proptest! {
    /// In no window does more pass than the rate and one burst allow; somebody always has a way to go
    /// on; and nobody who waits is overtaken.
    #[test]
    fn exact_live_and_fair(
        rate in (3_u32..34).prop_flat_map(|bits| (1_u64 << bits)..(2 << bits)),
        count in 1_usize..6,
        steps in proptest::collection::vec((1_u64..1_000_000, 0_u64..=100, 0_u64..3_000_000), 1..150),
    ) {
        let rate = rate.clamp(1_000, 12_500_000_000);
        let mut now = 1_000_000_000;
        let bucket = Bucket::new(Some(rate), now);
        let mut all: Vec<_> = (0..count).map(|_| Hungry::new(count)).collect();
        let mut passed = Vec::new();
        for (most, percent, late) in steps {
            let is_awake = |hungry: &Hungry| hungry.woken.0.load(Ordering::Relaxed);
            if !all.iter().any(is_awake) {
                let due = all.iter().filter_map(|hungry| hungry.timer).min();
                // Timers are late, never early.
                now = now.max(due.expect("somebody waits for time")) + late;
            }
            for index in 0..count {
                let hungry = &mut all[index];
                if hungry.timer.is_some_and(|at| at <= now) {
                    hungry.timer = None;
                    hungry.woken.0.store(true, Ordering::Relaxed);
                }
                if !hungry.woken.0.swap(false, Ordering::Relaxed) {
                    continue;
                }
                match bucket.take(most, now, &hungry.waiter, hungry.is_in_line) {
                    Ok(granted) => {
                        prop_assert!((1..=most).contains(&granted));
                        prop_assert!(hungry.overtaken.iter().all(|&times| times <= 1));
                        let used = granted * percent / 100;
                        bucket.give_back(granted - used);
                        passed.push((now, used));
                        hungry.is_in_line = false;
                        hungry.woken.0.store(true, Ordering::Relaxed);
                        hungry.overtaken.fill(0);
                        for other in all.iter_mut().filter(|other| other.is_in_line) {
                            other.overtaken[index] += 1;
                        }
                    }
                    Err(wait) => {
                        hungry.is_in_line = true;
                        if let Wait::For(time) = wait {
                            let time = u64::try_from(time.as_nanos()).unwrap();
                            prop_assert!(time > 0, "a busy loop");
                            hungry.timer = Some(now + time);
                        }
                    }
                }
            }
        }
        let burst = u128::from(burst(Some(rate)) * SECOND);
        for (index, (first, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (last, bytes) in &passed[index..] {
                sum += u128::from(*bytes) * u128::from(SECOND);
                prop_assert!(sum <= burst + u128::from(rate) * u128::from(last - first));
            }
        }
    }

    /// The same for datagrams, which wait for nobody: what has waited long enough passes.
    #[test]
    fn datagrams_are_bounded_and_pass_in_the_end(
        rate in 1_000_u64..1_000_000_000,
        asks in proptest::collection::vec((1_u64..=65_507, 0_u64..100_000_000), 1..200),
    ) {
        let (began, mut now) = (7, 7);
        let bucket = Bucket::new(Some(rate), now);
        let mut passed = 0;
        for (bytes, pause) in asks {
            now += pause;
            passed += bucket.take_now(bytes, now);
            let most = u128::from(rate) * u128::from(now - began) / u128::from(SECOND);
            prop_assert!(u128::from(passed) <= most + u128::from(burst(Some(rate))));
        }
        let full = (burst(Some(rate)) * SECOND).div_ceil(rate);
        prop_assert_eq!(bucket.take_now(65_507, now + full), 65_507);
    }
}

#[test]
fn a_limit_that_is_lifted_wakes_who_waits() {
    let bucket = Bucket::new(Some(1_000), 0);
    let hungry = Hungry::new(1);
    assert_eq!(bucket.take_now(u64::MAX, 0), 64 * 1024);
    hungry.woken.0.store(false, Ordering::Relaxed);
    let wait = bucket.take(10_000, 0, &hungry.waiter, false);
    assert_eq!(wait, Err(Wait::For(Duration::from_millis(1024))));
    bucket.set_rate(None, 0);
    assert!(hungry.woken.0.load(Ordering::Relaxed));
    assert_eq!(bucket.take(10_000, 0, &hungry.waiter, true), Ok(10_000));
    bucket.set_rate(Some(2_000_000), 0);
    assert_eq!(bucket.take_now(u64::MAX, 0), 500_000, "a full bucket");
}
