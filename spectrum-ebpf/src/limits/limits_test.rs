//! A limit that is wrong cuts clients off, or lets a flood through.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::parse::{flag, protocol};

const SLOT: u32 = 1;

fn account(source: &str) -> Account {
    let source: IpAddr = source.parse().expect(source);
    Account::new(&source.into(), SLOT, 0x5eed)
}

fn app(packet_rate: RateLimit, syn_rate: RateLimit) -> App {
    App {
        packet_rate,
        syn_rate,
        ..App::default()
    }
}

fn syn() -> Packet {
    Packet {
        length: 60,
        protocol: protocol::TCP,
        tcp_flags: flag::SYN,
        ..Packet::default()
    }
}

fn find<'set>(set: &'set SourceSet, account: &Account) -> Option<&'set Source> {
    set.sources.iter().find(|source| account.owns(source))
}

proptest! {
    /// A source that sends far more than it may gets its burst at once, and then its rate.
    #[test]
    fn a_burst_and_then_the_rate(
        per_second in 1_u32..100_000,
        burst in 1_u32..1000,
        ticks_per_second in prop_oneof![Just(100_u32), Just(250), Just(300), Just(1000)],
    ) {
        const SECONDS: u32 = 5;
        let limit = rate_limit(mode::ENFORCE, per_second, burst, ticks_per_second);
        let per_tick = per_second / ticks_per_second + 2;
        let mut due = 0;
        let start = 1_u64 << 32;
        let mut take_all = |jiffies: u64, count: u32| {
            (0..count).filter(|_| take(&mut due, &limit, jiffies << TICK_SHIFT)).count() as u64
        };

        let slack = u64::from(per_second / ticks_per_second) + 2;
        let at_once = take_all(start, burst + per_tick + 1);
        prop_assert!(at_once >= u64::from(burst));
        prop_assert!(at_once <= u64::from(burst) + slack, "{} at once", at_once);

        let later = (1..=SECONDS * ticks_per_second)
            .map(|tick| take_all(start + u64::from(tick), per_tick))
            .sum::<u64>();
        let allowed = u64::from(per_second) * u64::from(SECONDS);
        prop_assert!(later + slack >= allowed, "{} of {}", later, allowed);
        // An interval is rounded down to a part of 2^20 of a tick.
        prop_assert!(later <= allowed + allowed / 1000 + slack, "{} of {}", later, allowed);
    }

    /// Sets and tags are read with indexes and as "unused": both have a range to keep to.
    #[test]
    fn every_account_has_a_place(bits: u128, slot: u32, seed: u32) {
        let source = IpAddr::from(bits.to_be_bytes());
        let account = Account::new(&source.into(), slot, seed);
        prop_assert!(account.set_index() < SETS);
        prop_assert_ne!(account.tag(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_source(bits in 1_u128 << 96.., host: u64) {
        let of = |bits: u128| Account::new(&IpAddr::from(bits.to_be_bytes()).into(), SLOT, 7);
        let sibling = bits >> 64 << 64 | u128::from(host);
        prop_assert_eq!(of(bits), of(sibling));
        prop_assert_ne!(of(bits), of(bits ^ 1 << 64));
    }
}

#[test]
fn a_rule_in_mode_off_admits_everything() {
    let mut due = 0;
    let limit = RateLimit {
        mode: mode::OFF,
        interval: 1 << 40,
        ..RateLimit::default()
    };
    assert!((0..100).all(|_| take(&mut due, &limit, 1)));
}

#[test]
fn the_longest_idle_source_makes_room() {
    let mut set = SourceSet::default();
    let unlimited = app(RateLimit::default(), RateLimit::default());
    let sources = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].map(account);
    for (source, jiffies) in sources.iter().zip(10..) {
        admit(&mut set, source, &syn(), &unlimited, jiffies);
    }
    // The second one speaks again; the first is now the only old one.
    admit(&mut set, &sources[1], &syn(), &unlimited, 20);
    admit(&mut set, &account("198.51.100.1"), &syn(), &unlimited, 21);
    assert_eq!(find(&set, &sources[0]), None);
    admit(&mut set, &account("198.51.100.2"), &syn(), &unlimited, 22);
    assert_eq!(find(&set, &sources[2]), None);

    let survivor = find(&set, &sources[1]).expect("still there");
    assert_eq!((survivor.packets, survivor.bytes), (2, 120));
    let newcomer = find(&set, &account("198.51.100.2")).expect("there");
    assert_eq!(
        (newcomer.packets, newcomer.bytes, newcomer.limited),
        (1, 60, 0)
    );
}

/// Sources that send one packet each do not push out one that sends many.
#[test]
fn who_sends_much_stays_in_a_flood() {
    let mut set = SourceSet::default();
    let unlimited = app(RateLimit::default(), RateLimit::default());
    let busy = account("192.0.2.1");
    for jiffies in 10..20 {
        admit(&mut set, &busy, &syn(), &unlimited, jiffies);
    }
    for host in 0..200_u64 {
        let stranger = account(&std::format!("198.51.100.{host}"));
        admit(&mut set, &stranger, &syn(), &unlimited, 20 + host / 40);
    }
    assert_eq!(find(&set, &busy).map(|source| source.packets), Some(10));
    // Not for ever.
    for host in 0..WAYS {
        let stranger = account(&std::format!("203.0.113.{host}"));
        admit(&mut set, &stranger, &syn(), &unlimited, 40);
    }
    assert_eq!(find(&set, &busy), None);
}

/// The age of a source is counted in 32 bits of a clock of 64.
#[test]
fn ages_survive_the_end_of_the_short_clock() {
    let mut set = SourceSet::default();
    let unlimited = app(RateLimit::default(), RateLimit::default());
    let end = u64::from(u32::MAX);
    let sources = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(account);
    for (source, jiffies) in sources.iter().zip(end - 1..) {
        admit(&mut set, source, &syn(), &unlimited, jiffies);
    }
    admit(
        &mut set,
        &account("198.51.100.1"),
        &syn(),
        &unlimited,
        end + 4,
    );
    assert_eq!(find(&set, &sources[0]), None);
}

#[test]
fn a_syn_that_is_dropped_already_is_not_charged_as_a_syn() {
    let mut set = SourceSet::default();
    let one = |mode| RateLimit {
        mode,
        interval: 1 << 40,
        ..RateLimit::default()
    };
    let enforced = app(one(mode::ENFORCE), one(mode::ENFORCE));
    let client = account("192.0.2.1");
    assert_eq!(
        admit(&mut set, &client, &syn(), &enforced, 1),
        Admission::default()
    );
    let second = admit(&mut set, &client, &syn(), &enforced, 1);
    assert_eq!(
        (second.over_packet_rate, second.over_syn_rate),
        (true, false)
    );

    let monitored = app(one(mode::MONITOR), one(mode::ENFORCE));
    let third = admit(&mut set, &client, &syn(), &monitored, 1);
    assert_eq!((third.over_packet_rate, third.over_syn_rate), (true, true));
    assert_eq!(find(&set, &client).expect("there").limited, 2);
}
