#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;

use super::*;

fn origins(count: u8, lowest_latency: bool) -> Origins {
    let state = |number| {
        Arc::new(OriginState::new(Origin {
            ip: IpAddr::from([10, 0, 0, number]),
            first_port: 22,
        }))
    };
    Origins {
        states: (0..count).map(state).collect(),
        lowest_latency,
        turn: AtomicUsize::new(0),
    }
}

/// The last number of each address, in the order of the attempts.
fn order(origins: &Origins) -> Vec<u8> {
    let last = |state: &Arc<OriginState>| match state.origin.ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => unreachable!(),
    };
    origins.attempts().iter().map(last).collect()
}

#[test]
fn origins_take_turns_and_each_is_tried_once() {
    let origins = origins(3, false);
    assert_eq!(order(&origins), [0, 1, 2]);
    assert_eq!(order(&origins), [1, 2, 0]);
    assert_eq!(order(&origins), [2, 0, 1]);
    assert_eq!(order(&origins), [0, 1, 2]);
}

#[test]
fn a_failed_origin_comes_last_until_it_is_reached_again() {
    let origins = origins(3, false);
    origins.states[0].failed();
    assert_eq!(order(&origins), [1, 2, 0]);
    assert_eq!(order(&origins), [1, 2, 0]);
    assert!(origins.has_better(&origins.states[0]));
    origins.states[1].failed();
    origins.states[2].failed();
    assert_eq!(order(&origins), [2, 0, 1], "all are down: in turn again");
    assert!(!origins.has_better(&origins.states[0]));
    origins.states[1].reached(None);
    assert_eq!(order(&origins), [1, 0, 2]);
}

#[test]
fn the_lowest_latency_wins_but_the_others_are_measured_now_and_then() {
    let origins = origins(2, true);
    origins.states[0].reached(Some(Duration::from_millis(30)));
    assert_eq!(
        order(&origins)[0],
        1,
        "one that was never measured is tried"
    );
    origins.states[1].reached(Some(Duration::from_millis(10)));
    let first: Vec<_> = (0..200).map(|_| order(&origins)[0]).collect();
    let slow = first.iter().filter(|&&number| number == 0).count();
    assert!((1..=200 / PROBE_EVERY).contains(&slow), "{slow} of 200");
}

#[test]
fn the_average_follows_slowly() {
    let origins = origins(1, true);
    let state = &origins.states[0];
    state.reached(Some(Duration::from_micros(800)));
    state.reached(Some(Duration::from_micros(1600)));
    assert_eq!(state.connect_us.load(Ordering::Relaxed), 900);
    for _ in 0..100 {
        state.reached(Some(Duration::from_micros(1)));
    }
    assert!(state.connect_us.load(Ordering::Relaxed) < 20);
}
