#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::thread;

use super::*;

const LIMITS: Limits = Limits {
    connections: 3,
    connections_per_source: 2,
};

fn entries(admission: &Admission) -> usize {
    admission
        .shards
        .iter()
        .map(|shard| shard.lock().unwrap().len())
        .sum()
}

#[test]
fn one_source_cannot_take_what_belongs_to_all() {
    let admission = Admission::new();
    let admit = |ip: &str| admission.admit(ip.parse().unwrap(), &LIMITS);
    let first = admit("192.0.2.1").unwrap();
    let _second = admit("192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").unwrap_err(), Full::Source);
    let _third = admit("192.0.2.2").unwrap();
    assert_eq!(admit("192.0.2.3").unwrap_err(), Full::App);
    assert_eq!(admission.active(), 3);
    drop(first);
    assert!(admit("192.0.2.1").is_ok());
}

#[test]
fn an_ipv6_source_is_its_64() {
    let admission = Admission::new();
    let admit = |ip: &str| admission.admit(ip.parse().unwrap(), &LIMITS);
    let _held = [
        admit("2001:db8:0:1::1").unwrap(),
        admit("2001:db8:0:1:ffff::2").unwrap(),
    ];
    assert_eq!(admit("2001:db8:0:1::3").unwrap_err(), Full::Source);
    assert!(admit("2001:db8:0:2::1").is_ok());
}

/// A source that is gone costs nothing.
#[test]
fn counts_and_entries_return_to_zero_over_threads() {
    let admission = Admission::new();
    let limits = Limits {
        connections: 64,
        connections_per_source: 8,
    };
    thread::scope(|scope| {
        for worker in 0..4_u8 {
            let admission = &admission;
            scope.spawn(move || {
                for round in 0..2_000_u32 {
                    let ip = IpAddr::from([10, 0, 0, u8::try_from(round % 7).unwrap()]);
                    let held: Vec<_> = (0..=worker).map(|_| admission.admit(ip, &limits)).collect();
                    assert!(admission.active() <= 64 + 4);
                    drop(held);
                }
            });
        }
    });
    assert_eq!(admission.active(), 0);
    assert_eq!(entries(&admission), 0);
}
