//! Round trips, and what is reported of them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Window;

/// What came back of many requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    pub per_second: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// Latency that one in a hundred exceeds, in microseconds.
    pub p99_us: f64,
}

#[derive(Debug, Default)]
pub(super) struct Samples {
    latencies: Vec<Duration>,
}

impl Samples {
    pub(super) fn record(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    /// # Errors
    /// When nothing was recorded.
    pub(super) fn report(mut self, window: &Window) -> Result<RoundTrips> {
        self.latencies.sort_unstable();
        let percentile = |share| {
            percentile(&self.latencies, share).context("nothing was answered while it counted")
        };
        Ok(RoundTrips {
            per_second: self.latencies.len() as f64 / window.seconds(),
            p50_us: micros(percentile(0.5)?),
            p99_us: micros(percentile(0.99)?),
        })
    }
}

/// The smallest sample that at least this share of all does not exceed (nearest rank).
fn percentile(sorted: &[Duration], share: f64) -> Option<Duration> {
    #[expect(clippy::cast_possible_truncation, reason = "at most the length")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn micros(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_that_occurred() {
        let hundred: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        let micros = |share| percentile(&hundred, share).map(|sample| sample.as_micros());
        assert_eq!(micros(0.5), Some(50));
        assert_eq!(micros(0.99), Some(99));
        assert_eq!(micros(0.991), Some(100));
        assert_eq!(micros(1.0), Some(100));
        assert_eq!(micros(0.0), Some(1));
    }

    #[test]
    fn few_samples_and_none() {
        let one = [Duration::from_micros(7)];
        assert_eq!(percentile(&one, 0.5), Some(one[0]));
        assert_eq!(percentile(&one, 0.99), Some(one[0]));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
