#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn limits(per_source: u64) -> config::Bandwidth {
    config::Bandwidth {
        per_source: Ways {
            up: Some(per_source),
            down: None,
        },
        ..config::Bandwidth::default()
    }
}

fn take(bandwidth: &Arc<Bandwidth>, source: IpAddr, bytes: usize) -> usize {
    let mut gate = Gate::new(Way::Up);
    assert!(gate.is_limited(bandwidth, source));
    gate.grant_now(bytes, 1)
}

/// Else a source gets a burst for each connection that it closes.
#[test]
fn a_source_that_comes_again_has_not_got_a_full_bucket() {
    let bandwidth = Arc::new(Bandwidth::new(limits(1_000)));
    let source = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(take(&bandwidth, source, 100_000), 64 * 1024);
    // Many others come and go, and those of before are swept.
    for other in 0..10_000_u32 {
        take(&bandwidth, IpAddr::from(other.to_be_bytes()), 0);
    }
    assert!(bandwidth.sources().pairs.len() < 1_000);
    let again = take(&bandwidth, source, 100_000);
    assert!(again < 32 * 1024, "{again} bytes");
}

/// Part of a datagram is none.
#[test]
fn datagrams_pass_whole_or_not_at_all() {
    let bandwidth = Arc::new(Bandwidth::new(limits(1_000)));
    let source = IpAddr::from([192, 0, 2, 1]);
    let mut gate = Gate::new(Way::Up);
    assert!(gate.is_limited(&bandwidth, source));
    assert_eq!(
        gate.grant_now(50_500, 1000),
        50_500,
        "with a short last one"
    );
    assert_eq!(gate.grant_now(50_000, 1000), 15_000);
    assert_eq!(gate.grant_now(1_400, 1_400), 0);
    assert_eq!(gate.grant_now(30, 10), 30);
}

#[test]
fn what_is_not_limited_is_not_counted() {
    let bandwidth = Arc::new(Bandwidth::new(config::Bandwidth::default()));
    let source = IpAddr::from([192, 0, 2, 1]);
    let mut gate = Gate::new(Way::Down);
    assert!(!gate.is_limited(&bandwidth, source));
    bandwidth.set(limits(1_000));
    assert!(
        gate.is_limited(&bandwidth, source),
        "it takes over new limits"
    );
    assert_eq!(
        gate.grant_now(usize::MAX >> 1, 1),
        usize::MAX >> 1,
        "the other way"
    );
    bandwidth.set(config::Bandwidth::default());
    assert!(!gate.is_limited(&bandwidth, source));
}
