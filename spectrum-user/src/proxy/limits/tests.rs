#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::thread;

use super::*;
use crate::config::{ConnectionRate, NewConnections};

const LIMITS: Limits = Limits {
    connections: 3,
    connections_per_source: 2,
    ..Limits::NONE
};

fn admit(
    admission: &Arc<Admission>,
    ip: impl AsRef<str>,
    limits: &Limits,
) -> Result<Permit, Limit> {
    let rates = Rates::new(limits.new_connections);
    admission.admit(ip.as_ref().parse().unwrap(), limits, &rates)
}

#[test]
fn one_source_cannot_take_what_belongs_to_all() {
    let admission = Admission::new();
    let admit = |ip: &str| admit(&admission, ip, &LIMITS);
    let first = admit("192.0.2.1").unwrap();
    let _second = admit("192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").unwrap_err(), Limit::ConnectionsPerSource);
    let _third = admit("192.0.2.2").unwrap();
    assert_eq!(admit("192.0.2.3").unwrap_err(), Limit::Connections);
    assert_eq!(admission.active(), 3);
    drop(first);
    assert!(admit("192.0.2.1").is_ok());
}

#[test]
fn an_ipv6_source_is_its_64() {
    let admission = Admission::new();
    let admit = |ip: &str| admit(&admission, ip, &LIMITS);
    let _held = [
        admit("2001:db8:0:1::1").unwrap(),
        admit("2001:db8:0:1:ffff::2").unwrap(),
    ];
    assert_eq!(
        admit("2001:db8:0:1::3").unwrap_err(),
        Limit::ConnectionsPerSource
    );
    assert!(admit("2001:db8:0:2::1").is_ok());
}

/// Else one network fills the app from many addresses.
#[test]
fn a_network_is_bounded_as_a_whole() {
    let limits = Limits {
        connections_per_prefix: 2,
        ..Limits::NONE
    };
    for [first, second, third, elsewhere] in [
        ["192.0.2.1", "192.0.2.2", "192.0.2.255", "192.0.3.1"],
        [
            "2001:db8:1::1",
            "2001:db8:1:1::1",
            "2001:db8:1:ffff::1",
            "2001:db8:2::1",
        ],
    ] {
        let admission = Admission::new();
        let admit = |ip| admit(&admission, ip, &limits);
        let held = admit(first).unwrap();
        let _other = admit(second).unwrap();
        assert_eq!(admit(third).unwrap_err(), Limit::ConnectionsPerPrefix);
        let _elsewhere = admit(elsewhere).unwrap();
        drop(held);
        assert!(admit(third).is_ok());
    }
}

/// Else whoever exceeds a bound of its own keeps others out of what belongs to all.
#[test]
fn who_is_refused_takes_no_token_and_no_place() {
    let rate = |per_second| {
        Some(ConnectionRate {
            per_second,
            burst: 2,
        })
    };
    let limits = Limits {
        connections_per_source: 1,
        new_connections: NewConnections {
            app: rate(1),
            per_source: rate(1),
        },
        ..Limits::NONE
    };
    let rates = Rates::new(limits.new_connections);
    let admission = Admission::new();
    let admit = |ip: &str| admission.admit(ip.parse().unwrap(), &limits, &rates);
    let held = admit("192.0.2.1").unwrap();
    for _ in 0..100 {
        assert_eq!(admit("192.0.2.1").unwrap_err(), Limit::ConnectionsPerSource);
    }
    let _other = admit("192.0.2.2").unwrap();
    drop(held);
    assert_eq!(admit("192.0.2.3").unwrap_err(), Limit::NewConnections);
    assert_eq!(admission.active(), 1);
    assert!(!admission.holds("192.0.2.3".parse().unwrap()));
}

/// A source that is gone costs nothing.
#[test]
fn counts_and_entries_return_to_zero_over_threads() {
    let admission = Admission::new();
    let limits = Limits {
        connections: 64,
        connections_per_prefix: 16,
        connections_per_source: 8,
        ..Limits::NONE
    };
    let rates = Rates::new(limits.new_connections);
    thread::scope(|scope| {
        for worker in 0..4_u8 {
            let (admission, rates) = (&admission, &rates);
            scope.spawn(move || {
                for round in 0..2_000_u32 {
                    let ip = IpAddr::from([10, 0, 0, u8::try_from(round % 7).unwrap()]);
                    let held: Vec<_> = (0..=worker)
                        .map(|_| admission.admit(ip, &limits, rates))
                        .collect();
                    assert!(admission.active() <= 64 + 4);
                    drop(held);
                }
            });
        }
    });
    assert_eq!(admission.active(), 0);
    assert!(admission.sources.keys().is_empty());
    assert!(admission.prefixes.keys().is_empty());
}
