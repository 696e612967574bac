//! The clocks of the data plane.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_getres, clock_gettime};

/// Time since boot, suspended time included (`CLOCK_BOOTTIME`, as `bpf_ktime_get_boot_ns`).
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("CLOCK_BOOTTIME exists since Linux 2.6.39")
        .into()
}

/// Whole seconds since boot, as access entries hold them.
pub fn since_boot_s() -> u32 {
    u32::try_from(since_boot().as_secs()).unwrap_or(u32::MAX)
}

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE`, as `bpf_ktime_get_coarse_ns`: the clock by which
/// signatures expire.
pub fn monotonic_coarse_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .expect("coarse clocks exist since Linux 2.6.32");
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
}

/// The wall-clock time of a moment given in time since boot.
pub fn wall_time(since_boot_then: Duration) -> SystemTime {
    let now = since_boot();
    let wall = SystemTime::now();
    match now.checked_sub(since_boot_then) {
        Some(ago) => wall - ago,
        None => wall + (since_boot_then - now),
    }
}

/// Jiffies in a second (`CONFIG_HZ`): the resolution of the coarse clocks is one jiffy.
pub fn ticks_per_second() -> u32 {
    let tick = Duration::from(
        clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .expect("coarse clocks exist since Linux 2.6.32"),
    );
    let ticks = Duration::from_secs(1).as_nanos() / tick.as_nanos().max(1);
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

/// The kernel's `jiffies64`, give or take a second: ticks of the monotonic clock, from five minutes
/// before 2³², so that kernels meet its end soon (`INITIAL_JIFFIES`).
pub fn jiffies() -> u64 {
    let initial = 300_u32.wrapping_mul(ticks_per_second()).wrapping_neg();
    let ticks = since_start().as_millis() * u128::from(ticks_per_second()) / 1000;
    u64::from(initial) + u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The wall-clock time of a moment given in jiffies.
pub fn wall_time_of_jiffies(then: u64) -> SystemTime {
    let ago = jiffies().saturating_sub(then);
    let millis = ago.saturating_mul(1000) / u64::from(ticks_per_second());
    SystemTime::now() - Duration::from_millis(millis)
}

fn since_start() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("CLOCK_MONOTONIC exists since Linux 2.6")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong tick makes every rate limit wrong by the same factor.
    #[test]
    fn a_tick_is_one_that_kernels_are_built_with() {
        assert!([100, 250, 300, 1000].contains(&ticks_per_second()));
    }

    #[test]
    fn wall_time_reaches_both_ways() {
        let now = since_boot();
        let past = wall_time(now.saturating_sub(Duration::from_secs(60)));
        let future = wall_time(now + Duration::from_secs(60));
        let span = future.duration_since(past).expect("the future is later");
        assert!(span.abs_diff(Duration::from_secs(120)) < Duration::from_secs(5));
    }
}
