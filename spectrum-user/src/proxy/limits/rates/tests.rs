#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn rates(per_second: u32, burst: u32) -> Rates {
    Rates::new(NewConnections {
        app: None,
        per_source: Some(ConnectionRate { per_second, burst }),
    })
}

proptest! {
    /// In no window does a bucket give more than its rate and burst allow, however it is asked; and
    /// who waits for an interval always gets one.
    #[test]
    fn never_more_than_rate_and_burst_and_always_progress(
        per_second in 1_u32..=10_000_000,
        burst in 1_u32..=1000,
        pauses in proptest::collection::vec(0_u64..2_000_000_000, 1..400),
        quicker in 0_u32..20,
    ) {
        let pace = Pace::new(ConnectionRate { per_second, burst });
        let mut now = 12_345;
        let mut full_at = 0;
        let mut taken = Vec::new();
        for pause in pauses {
            now += pause >> quicker;
            if let Some(after) = pace.after_one(full_at, now) {
                full_at = after;
                taken.push(now);
            } else {
                prop_assert!(pace.after_one(full_at, now + pace.interval).is_some());
            }
        }
        for (index, first) in taken.iter().enumerate() {
            for (count, last) in (1_u64..).zip(taken.iter().skip(index)) {
                let nanoseconds = u128::from(last - first);
                let most = nanoseconds * u128::from(per_second) / u128::from(SECOND);
                prop_assert!(u128::from(count) <= most + u128::from(burst));
            }
        }
    }
}

#[test]
fn sources_have_buckets_of_their_own() {
    let rates = rates(1, 3);
    let take = |ip: &str| {
        let turn = rates.turn_of(ip.parse().unwrap());
        turn.map(Turn::take)
    };
    for ip in ["192.0.2.1", "192.0.2.2"] {
        assert!((0..3).all(|_| take(ip).is_ok()));
        assert_eq!(take(ip), Err(Limit::NewConnectionsPerSource));
    }
}

/// Else a flood from sources without number gives everybody a fresh bucket each time, or takes all
/// memory.
#[test]
fn a_flood_of_others_does_not_make_it_forget_who_is_at_its_bound() {
    let rates = rates(1, 1_000);
    let take = |ip: u32| {
        let turn = rates.turn_of(IpAddr::from(ip.to_be_bytes()));
        turn.map(Turn::take)
    };
    let loud = 7;
    assert!((0..1_000).all(|_| take(loud).is_ok()));
    assert!((0..400_000).all(|ip| take(1_000_000 + ip).is_ok()));
    // The test may take a second or two, each of which brings it a token.
    let again = (0..1_000).filter(|_| take(loud).is_ok()).count();
    assert!(again < 100, "{again} more");
}

/// Without limits, nobody is counted or remembered.
#[test]
fn no_rate_is_no_bucket() {
    let rates = Rates::new(NewConnections::default());
    assert!(rates.app.is_none() && rates.sources.is_none());
    let source = IpAddr::from([192, 0, 2, 1]);
    assert!((0..1000).all(|_| rates.turn_of(source).is_ok() && rates.take().is_ok()));
}
