#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::*;
use crate::config::Origin;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn member(number: u8, weight: u16) -> Member {
    Member {
        weight,
        ..Member::from(Origin {
            ip: IpAddr::from([10, 0, 0, number]),
            first_port: 22,
        })
    }
}

/// Origins 0, 1, 2 … with these weights.
fn origins(weights: &[u16], balance: Balance) -> Origins {
    let members = (0_u8..).zip(weights);
    of(
        members
            .map(|(number, &weight)| member(number, weight))
            .collect(),
        balance,
        Duration::ZERO,
    )
}

fn of(members: Vec<Member>, balance: Balance, slow_start: Duration) -> Origins {
    let settings = config::Origins {
        members,
        lookup: None,
        balance,
        retries: 10,
        slow_start,
        source: SourceAddress::Route,
        max_connections: None,
    };
    Origins::new(&settings, None)
}

fn number(held: &Held) -> u8 {
    match held.origin.ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => unreachable!(),
    }
}

/// The origins in the order in which a connection tries them.
fn order(origins: &Origins) -> Vec<u8> {
    origins.attempts(CLIENT).map(|held| number(&held)).collect()
}

fn first(origins: &Origins, source: IpAddr) -> u8 {
    number(&origins.attempts(source).next().unwrap())
}

/// How often each is the first choice of connections from as many sources.
fn shares(origins: &Origins, connections: u32) -> BTreeMap<u8, u32> {
    let mut shares = BTreeMap::new();
    for connection in 0..connections {
        let source = IpAddr::from(Ipv4Addr::from_bits(0x0b00_0000 + connection));
        *shares.entry(first(origins, source)).or_default() += 1;
    }
    shares
}

fn state(origins: &Origins, index: usize) -> &OriginState {
    &origins.peers[index].state
}

fn condition(origins: &Origins, index: usize) -> OriginCondition {
    state(origins, index).condition(Moment::now(), origins.settings.slow_start)
}

#[test]
fn equal_origins_take_turns_and_each_is_tried_once() {
    let origins = origins(&[1, 1, 1], Balance::RoundRobin);
    let turns: Vec<_> = (0..6).map(|_| first(&origins, CLIENT)).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    for _ in 0..10 {
        let mut all = order(&origins);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }
}

/// The example of nginx, where this order comes from: no burst to the heavy one.
#[test]
fn weights_are_shares_and_turns_are_smooth() {
    let weighted = origins(&[5, 1, 1], Balance::RoundRobin);
    let turns: Vec<_> = (0..7).map(|_| first(&weighted, CLIENT)).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    let reduced = origins(&[200, 100], Balance::RoundRobin);
    let turns: Vec<_> = (0..6).map(|_| first(&reduced, CLIENT)).collect();
    assert_eq!(turns, [0, 1, 0, 0, 1, 0]);
}

#[test]
fn the_share_of_a_failed_origin_goes_to_the_others_by_their_weights() {
    let origins = origins(&[4, 2, 1], Balance::RoundRobin);
    state(&origins, 0).failed();
    assert_eq!(shares(&origins, 300), BTreeMap::from([(1, 200), (2, 100)]));
    assert_eq!(order(&origins)[2], 0, "it is the last that is tried");
    assert!(origins.has_better(state(&origins, 0)));
    state(&origins, 1).failed();
    state(&origins, 2).failed();
    assert_eq!(order(&origins).len(), 3, "all are down: all are tried");
    assert!(!origins.has_better(state(&origins, 0)));
    state(&origins, 1).reached(None);
    assert_eq!(order(&origins)[0], 1);
}

#[test]
fn a_backup_gets_nothing_until_all_others_are_down() {
    let mut backup = member(2, 1);
    backup.rank = 1;
    let origins = of(
        vec![member(0, 1), member(1, 1), backup],
        Balance::RoundRobin,
        Duration::ZERO,
    );
    assert_eq!(shares(&origins, 10), BTreeMap::from([(0, 5), (1, 5)]));
    state(&origins, 0).failed();
    assert_eq!(order(&origins), [1, 2, 0]);
    state(&origins, 1).failed();
    assert_eq!(first(&origins, CLIENT), 2);
}

#[test]
fn an_origin_in_maintenance_is_never_tried() {
    let mut resting = member(1, 1);
    resting.maintenance = true;
    let origins = of(
        vec![member(0, 1), resting],
        Balance::SourceHash,
        Duration::ZERO,
    );
    assert_eq!(shares(&origins, 100), BTreeMap::from([(0, 100)]));
    state(&origins, 0).failed();
    assert_eq!(order(&origins), [0]);
    assert!(!origins.has_better(state(&origins, 0)));
}

#[test]
fn a_connection_tries_no_more_origins_than_it_may() {
    let settings = config::Origins {
        retries: 1,
        members: (0..4).map(|number| member(number, 1)).collect(),
        ..[].into_iter().collect()
    };
    let origins = Origins::new(&settings, None);
    assert_eq!(origins.attempts(CLIENT).count(), 2);
}

#[test]
fn the_fewest_connections_for_its_weight_win() {
    let origins = origins(&[1, 3], Balance::LeastConnections);
    let mut held = Vec::new();
    for _ in 0..400 {
        held.extend(origins.attempts(CLIENT).next());
    }
    assert_eq!(state(&origins, 0).active(), 100);
    assert_eq!(state(&origins, 1).active(), 300);
    held.retain(|held| number(held) == 1);
    assert_eq!(first(&origins, CLIENT), 0, "it has none now");
    drop(held);
    assert_eq!(state(&origins, 1).active(), 0);
}

#[test]
fn the_lowest_latency_wins_but_all_others_are_measured_now_and_then() {
    let origins = origins(&[1, 1, 1], Balance::LowestLatency);
    state(&origins, 0).reached(Some(Duration::from_millis(10)));
    state(&origins, 1).reached(Some(Duration::from_millis(30)));
    assert_eq!(first(&origins, CLIENT), 2, "it was never measured");
    state(&origins, 2).reached(Some(Duration::from_millis(30)));
    let shares = shares(&origins, 960);
    assert!(shares[&0] >= 930, "{shares:?}");
    assert!(shares[&1] >= 5 && shares[&2] >= 5, "{shares:?}");
}

#[test]
fn the_average_follows_slowly() {
    let origins = origins(&[1], Balance::LowestLatency);
    let state = state(&origins, 0);
    state.reached(Some(Duration::from_micros(800)));
    state.reached(Some(Duration::from_micros(1600)));
    assert_eq!(state.connect_us(), Some(900));
    for _ in 0..100 {
        state.reached(Some(Duration::from_micros(1)));
    }
    assert!(state.connect_us().unwrap() < 20);
}

#[test]
fn a_source_keeps_its_origin_and_weights_are_shares() {
    let origins = origins(&[1, 1, 2], Balance::SourceHash);
    let shares = shares(&origins, 10_000);
    for (number, expected) in [(0, 2500), (1, 2500), (2, 5000)] {
        let share = shares[&number];
        assert!(share.abs_diff(expected) < 250, "{shares:?}");
    }
    let again = [0; 10].map(|_| first(&origins, CLIENT));
    assert!(again.iter().all(|&number| number == again[0]));
    let v6 = |text: &str| first(&origins, text.parse().unwrap());
    assert_eq!(
        v6("2001:db8::1"),
        v6("2001:db8::ffff"),
        "one /64, one source"
    );
}

/// Two edges, or one after a reload, agree, though the documents list the origins otherwise.
#[test]
fn sources_have_the_same_origins_in_whatever_order_these_are_listed() {
    let members = [member(0, 1), member(1, 2), member(2, 1)];
    let origins = of(members.to_vec(), Balance::SourceHash, Duration::ZERO);
    let reversed = members.into_iter().rev().collect();
    let reversed = of(reversed, Balance::SourceHash, Duration::ZERO);
    for low in 0..1000 {
        let source = IpAddr::from(Ipv4Addr::from_bits(low));
        assert_eq!(first(&origins, source), first(&reversed, source));
    }
}

#[test]
fn only_the_sources_of_an_origin_that_fails_move_and_they_come_back() {
    let origins = origins(&[1, 1, 1, 1], Balance::SourceHash);
    let sources = || (0..4000).map(|low| IpAddr::from(Ipv4Addr::from_bits(low)));
    let choices = || -> Vec<u8> { sources().map(|ip| first(&origins, ip)).collect() };
    let before = choices();
    state(&origins, 3).failed();
    let after = choices();
    let mut moved = BTreeMap::new();
    for (before, after) in before.iter().zip(&after) {
        if before == after {
            continue;
        }
        assert_eq!(*before, 3, "it moved without need");
        *moved.entry(*after).or_insert(0) += 1;
    }
    assert!(moved.values().all(|&count| count > 250), "{moved:?}");
    state(&origins, 3).reached(None);
    assert_eq!(choices(), before);
}

/// What the method promises: when the list changes, few change that need not.
#[test]
fn few_sources_move_when_an_origin_is_added() {
    let nine = origins(&[1; 9], Balance::SourceHash);
    let ten = origins(&[1; 10], Balance::SourceHash);
    let sources = (0..10_000).map(|low| IpAddr::from(Ipv4Addr::from_bits(low)));
    let needless = sources.filter(|&source| {
        let (before, after) = (first(&nine, source), first(&ten, source));
        before != after && after != 9
    });
    let needless = needless.count();
    assert!(needless < 500, "{needless} of 10,000");
}

#[test]
fn an_origin_that_comes_back_starts_slowly_whatever_the_balance() {
    for balance in [Balance::RoundRobin, Balance::SourceHash] {
        let members = vec![member(0, 1), member(1, 1)];
        let origins = of(members, balance, Duration::from_hours(1));
        state(&origins, 0).failed();
        state(&origins, 0).reached(None);
        let shares = shares(&origins, 1000);
        // It is at 1 % of its half.
        assert!(shares.get(&0).is_none_or(|&few| few < 50), "{shares:?}");
        let slow = OriginCondition::SlowStart { percent: 1 };
        assert_eq!(condition(&origins, 0), slow);
        assert_eq!(condition(&origins, 1), OriginCondition::Up);
    }
}

#[test]
fn an_origin_keeps_its_state_and_comes_back_slowly_from_maintenance() {
    let mut resting = member(0, 1);
    resting.maintenance = true;
    let slow = Duration::from_hours(1);
    let before = of(vec![resting, member(1, 1)], Balance::RoundRobin, slow);
    state(&before, 1).reached(Some(Duration::from_millis(1)));
    let settings = config::Origins {
        members: vec![member(1, 7), member(0, 1)],
        lookup: None,
        balance: Balance::RoundRobin,
        retries: 1,
        slow_start: slow,
        source: SourceAddress::Route,
        max_connections: None,
    };
    let after = Origins::new(&settings, Some(&before));
    assert_eq!(state(&after, 0).connect_us(), Some(1000));
    let slow = OriginCondition::SlowStart { percent: 1 };
    assert_eq!(condition(&after, 1), slow);
}

fn bounded(origins: &Origins, most: u32) -> Origins {
    let settings = config::Origins {
        max_connections: Some(most),
        ..origins.settings.clone()
    };
    Origins::new(&settings, Some(origins))
}

/// An origin that gets more than it bears fails, and its connections come to the others.
#[test]
fn no_origin_gets_more_than_it_may_have() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::SourceHash,
        Balance::LowestLatency,
    ] {
        let origins = bounded(&origins(&[1, 3, 1], balance), 2);
        let mut held: Vec<_> = (0..6)
            .map(|_| origins.attempts(CLIENT).next().unwrap())
            .collect();
        assert_eq!(active(&origins), [2, 2, 2]);
        let mut attempts = origins.attempts(CLIENT);
        assert!(attempts.next().is_none() && attempts.are_full());
        let free = number(&held.remove(3));
        let again = attempts.next().unwrap();
        assert_eq!(number(&again), free);
        assert!(attempts.next().is_none());
        drop((held, again));
        assert_eq!(active(&origins), [0, 0, 0]);
    }
}

fn active(origins: &Origins) -> Vec<u32> {
    let peers = origins.peers.iter();
    peers.map(|peer| peer.state.active()).collect()
}

/// A backup may be a machine that shows a page of regret.
#[test]
fn a_backup_is_for_who_fails_and_not_for_who_is_busy() {
    let backup = Member {
        rank: 1,
        ..member(1, 1)
    };
    let origins = of(
        vec![member(0, 1), backup],
        Balance::RoundRobin,
        Duration::ZERO,
    );
    let origins = bounded(&origins, 1);
    let held = origins.attempts(CLIENT).next().unwrap();
    assert_eq!(number(&held), 0);
    let mut attempts = origins.attempts(CLIENT);
    assert!(attempts.next().is_none() && attempts.are_full());
    held.failed();
    let instead = attempts.next().unwrap();
    assert_eq!(number(&instead), 1);
}

/// Connections that are there before a bound is set, or lowered, count.
#[test]
fn a_bound_changes_under_those_who_hold_a_place() {
    let before = origins(&[1], Balance::RoundRobin);
    let held: Vec<_> = (0..3)
        .map(|_| before.attempts(CLIENT).next().unwrap())
        .collect();
    let now = bounded(&before, 3);
    assert!(now.attempts(CLIENT).next().is_none());
    let now = bounded(&now, 4);
    let fourth = now.attempts(CLIENT).next().unwrap();
    // Also for who still has the settings of before.
    assert!(before.attempts(CLIENT).next().is_none());
    drop((held, fourth));
    assert_eq!(active(&now), [0]);
}

/// Workers that take the last place at the same time do not both get it.
#[test]
fn threads_never_exceed_the_bound() {
    let origins = bounded(&origins(&[1, 1], Balance::RoundRobin), 3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let held: Vec<_> = (0..3)
                        .filter_map(|_| origins.attempts(CLIENT).next())
                        .collect();
                    assert!(active(&origins).iter().all(|&active| active <= 3));
                    drop(held);
                }
            });
        }
    });
    assert_eq!(active(&origins), [0, 0]);
}
