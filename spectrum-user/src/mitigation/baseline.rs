//! What an app is used to.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::Facts;

/// Samples kept: at the pace below, those of the last minute at least.
const CAPACITY: usize = 1024;

/// Between two samples that are kept.
const PACE: Duration = Duration::from_millis(50);

/// How long samples and rates wait before they count: a flood that is just beginning must not
/// become what the app is used to.
const QUARANTINE: Duration = Duration::from_secs(3);

/// In which the highest rate is half forgotten, in windows.
const HALF_LIFE_WINDOWS: u64 = 1500;

/// Samples kept of sources that have proved to be real, and of each of them: one that joins a flood
/// must not speak for all.
const PROVEN_CAPACITY: usize = 256;
const OF_ONE_SOURCE: usize = 16;

/// Rates and looks of calm hours.
#[derive(Debug)]
pub(super) struct Baseline {
    since: Duration,
    samples: VecDeque<Facts>,
    last_sample: Option<Duration>,
    waiting_samples: VecDeque<(Duration, Facts)>,
    waiting_rates: VecDeque<(Duration, u64)>,
    /// What sources sent that had proved to be real, whenever that was.
    proven: VecDeque<(IpAddr, Facts)>,
    /// The highest rate, in thousandths of a packet per second; slowly forgotten.
    peak: u64,
}

impl Baseline {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            samples: VecDeque::new(),
            last_sample: None,
            waiting_samples: VecDeque::new(),
            waiting_rates: VecDeque::new(),
            proven: VecDeque::new(),
            peak: 0,
        }
    }

    pub(super) fn observe(&mut self, packet: Facts, now: Duration) {
        if self.last_sample.is_none_or(|last| now >= last + PACE) {
            self.last_sample = Some(now);
            self.waiting_samples.push_back((now, packet));
        }
    }

    /// The source has proved to be real: what it sends is no flood, however many others there are.
    pub(super) fn observe_proven(&mut self, source: IpAddr, packet: Facts) {
        let of_source = self.proven.iter().filter(|(of, _)| *of == source);
        let oldest = if of_source.count() >= OF_ONE_SOURCE {
            self.proven.iter().position(|(of, _)| *of == source)
        } else {
            (self.proven.len() >= PROVEN_CAPACITY).then_some(0)
        };
        if let Some(oldest) = oldest {
            self.proven.remove(oldest);
        }
        self.proven.push_back((source, packet));
    }

    /// A window of calm has passed, at this many packets per second.
    pub(super) fn close_window(&mut self, rate: u64, now: Duration) {
        self.waiting_rates.push_back((now, rate));
        let is_over = |then: Duration| now >= then + QUARANTINE;
        while let Some(&(then, rate)) = self.waiting_rates.front()
            && is_over(then)
        {
            self.waiting_rates.pop_front();
            let forgotten = self.peak - self.peak / (HALF_LIFE_WINDOWS * 3 / 2);
            self.peak = forgotten.max(rate.saturating_mul(1000));
        }
        while let Some(&(then, packet)) = self.waiting_samples.front()
            && is_over(then)
        {
            self.waiting_samples.pop_front();
            if self.samples.len() == CAPACITY {
                self.samples.pop_front();
            }
            self.samples.push_back(packet);
        }
    }

    /// What came of late was a flood: none of it counts.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting_samples.clear();
        self.waiting_rates.clear();
    }

    /// The most packets per second that came in calm hours.
    pub(super) fn usual_rate(&self) -> u64 {
        self.peak / 1000
    }

    pub(super) fn samples(&self) -> &VecDeque<Facts> {
        &self.samples
    }

    pub(super) fn proven(&self) -> impl Iterator<Item = &Facts> + Clone {
        self.proven.iter().map(|(_, packet)| packet)
    }

    /// How long the app is known.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}
