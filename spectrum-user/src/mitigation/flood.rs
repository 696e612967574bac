//! One app: calm or under a flood, and what holds against it.

use std::{collections::VecDeque, time::Duration};

use super::{
    Decision, Evidence, LIFETIME, Mitigation, Observation, State, View, WINDOW, Wish,
    baseline::Baseline,
    fingerprint::{self, Fingerprint, Suspect},
    sensitivity::Bounds,
};
use crate::config::{Mode, Sensitivity};

/// Signatures of one app at once.
const MOST: usize = 8;

/// Windows over the threshold that make a flood.
const SUSPICIOUS_WINDOWS: u32 = 2;

/// Samples of a flood that are looked at; the latest, should it change.
const MOST_SUSPECTS: usize = 256;

/// Samples below which nothing is decided.
const LEAST_SUSPECTS: usize = 32;

/// How long to wait before a flood without a fingerprint is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a signature has to match nothing, or hardly anything, before it goes.
const QUIET: Duration = Duration::from_secs(10);

/// How long the flood has to be over before the app is calm again, and learns.
const CALM: Duration = Duration::from_secs(5);

/// How long what the operator removed is left alone.
const SPARED_FOR: Duration = Duration::from_secs(3600);

/// A signature that holds.
#[derive(Debug)]
struct Active {
    mitigation: Mitigation,
    /// Matching packets per second below which it counts as quiet.
    quiet_rate: u64,
    /// Matching packets of this window.
    weight: u64,
    last_match: Duration,
}

#[derive(Debug)]
pub(super) struct AppState {
    wish: Wish,
    baseline: Baseline,
    active: Vec<Active>,
    /// What the operator removed, and until when it is spared.
    spared: Vec<(Fingerprint, Duration)>,
    /// Packets of this window that no signature matches.
    weight: u64,
    window_start: Duration,
    suspects: VecDeque<Suspect>,
    /// When they were last searched in vain.
    searched: Option<Duration>,
    /// Windows in a row that were over the threshold.
    suspicious: u32,
    /// When the flood was first seen.
    flooded_since: Option<Duration>,
    last_flooded: Duration,
}

impl AppState {
    pub(super) fn new(wish: Wish, now: Duration) -> Self {
        Self {
            wish,
            baseline: Baseline::new(now),
            active: Vec::new(),
            spared: Vec::new(),
            weight: 0,
            window_start: now,
            suspects: VecDeque::new(),
            searched: None,
            suspicious: 0,
            flooded_since: None,
            last_flooded: now,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.wish.mode
    }

    /// Another mode is for the signatures that hold, too.
    pub(super) fn set_wish(&mut self, wish: Wish) -> Vec<Decision> {
        self.wish = wish;
        let changed = self
            .active
            .iter_mut()
            .filter(|active| active.mitigation.mode != wish.mode);
        let extend = changed.map(|active| {
            active.mitigation.mode = wish.mode;
            Decision::Extend(active.mitigation.clone())
        });
        extend.collect()
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Mitigation> {
        self.active.iter().map(|active| &active.mitigation)
    }

    pub(super) fn take_active(&mut self) -> Vec<Mitigation> {
        let active = self.active.drain(..);
        active.map(|active| active.mitigation).collect()
    }

    pub(super) fn view(&self, now: Duration) -> View {
        let is_known = self.is_known(&Bounds::of(self.wish.sensitivity), now);
        View {
            state: match self.flooded_since {
                Some(_) => State::Flooded,
                None if is_known => State::Calm,
                None => State::Learning,
            },
            usual_rate: self.baseline.usual_rate(),
            baseline_samples: self.baseline.samples().len(),
        }
    }

    pub(super) fn install(&mut self, mitigation: &Mitigation, rate: u64) {
        self.active.push(Active {
            mitigation: mitigation.clone(),
            quiet_rate: rate / 20,
            weight: 0,
            last_match: mitigation.installed,
        });
        let is_new = |suspect: &Suspect| !mitigation.fingerprint.matches(&suspect.packet);
        self.suspects.retain(is_new);
    }

    /// Its rate is not known: any match keeps it.
    pub(super) fn adopt(&mut self, mitigation: Mitigation) {
        self.install(&mitigation, 0);
    }

    pub(super) fn forget(&mut self, id: u32, now: Duration) {
        let before = self.active.len();
        self.active.retain(|active| active.mitigation.id != id);
        if self.active.len() < before {
            self.searched = Some(now);
        }
    }

    pub(super) fn accept(&mut self, id: u32) -> Option<Mitigation> {
        let mut active = self.active.iter_mut();
        let found = active.find(|active| active.mitigation.id == id)?;
        found.mitigation.expires = None;
        Some(found.mitigation.clone())
    }

    pub(super) fn remove(&mut self, id: u32, now: Duration) -> Option<Mitigation> {
        let index = self
            .active
            .iter()
            .position(|active| active.mitigation.id == id)?;
        let removed = self.active.remove(index).mitigation;
        self.spared.push((removed.fingerprint, now + SPARED_FOR));
        Some(removed)
    }

    pub(super) fn observe(&mut self, observation: &Observation, now: Duration) {
        let packet = observation.packet;
        if observation.is_proven {
            self.baseline.observe_proven(observation.source, packet);
        }
        let weight = u64::from(observation.weight);
        let mut active = self.active.iter_mut();
        if let Some(active) = active.find(|active| active.mitigation.fingerprint.matches(&packet)) {
            active.weight += weight;
            return;
        }
        if self.is_spared(&packet) {
            return;
        }
        self.weight += weight;
        if self.suspects.len() >= MOST_SUSPECTS {
            self.suspects.pop_front();
        }
        self.suspects.push_back(Suspect {
            packet,
            source: observation.source,
        });
        if self.flooded_since.is_none() {
            self.baseline.observe(packet, now);
        }
    }

    fn is_spared(&self, packet: &super::Facts) -> bool {
        let mut spared = self.spared.iter();
        spared.any(|(fingerprint, _)| fingerprint.matches(packet))
    }

    /// Extends the signatures that still match, and removes those that do no more.
    pub(super) fn upkeep(&mut self, now: Duration) -> Vec<Decision> {
        self.spared.retain(|(_, until)| now < *until);
        let elapsed = now.saturating_sub(self.window_start);
        let mut decisions = Vec::new();
        self.active.retain_mut(|active| {
            let weight = std::mem::take(&mut active.weight);
            if weight > 0 && per_second(weight, elapsed) >= active.quiet_rate {
                active.last_match = now;
            }
            let mitigation = &mut active.mitigation;
            let Some(expires) = mitigation.expires else {
                return true;
            };
            if now >= active.last_match + QUIET {
                decisions.push(Decision::Remove(mitigation.clone()));
                return false;
            }
            if now + LIFETIME / 2 >= expires {
                mitigation.expires = Some(now + LIFETIME);
                decisions.push(Decision::Extend(mitigation.clone()));
            }
            true
        });
        decisions
    }

    /// Ends a window; says what should be installed.
    pub(super) fn close_window(&mut self, now: Duration) -> Option<(Fingerprint, Evidence)> {
        let elapsed = now.saturating_sub(self.window_start);
        let rate = per_second(std::mem::take(&mut self.weight), elapsed);
        self.window_start = now;
        let bounds = self.bounds(now)?;
        let usual = self.baseline.usual_rate();
        let is_over = rate >= bounds.floor.max(usual.saturating_mul(bounds.factor));
        if !is_over {
            self.suspicious = 0;
            self.rest(rate, now);
            return None;
        }
        self.suspicious += 1;
        self.last_flooded = now;
        if self.suspicious < SUSPICIOUS_WINDOWS && self.flooded_since.is_none() {
            return None;
        }
        if self.flooded_since.is_none() {
            self.flooded_since = Some(now.saturating_sub(WINDOW * SUSPICIOUS_WINDOWS));
            self.baseline.forget_waiting();
        }
        let has_searched = self.searched.is_some_and(|then| now < then + PAUSE);
        if self.active.len() >= MOST || self.suspects.len() < LEAST_SUSPECTS || has_searched {
            return None;
        }
        let decided = self.decide(&bounds, rate, now);
        self.searched = decided.is_none().then_some(now);
        decided
    }

    /// A window without a flood.
    fn rest(&mut self, rate: u64, now: Duration) {
        self.suspects.clear();
        if self.flooded_since.is_some() && now < self.last_flooded + CALM {
            return;
        }
        self.flooded_since = None;
        self.baseline.close_window(rate, now);
    }

    /// `None` while nothing can be decided.
    fn bounds(&self, now: Duration) -> Option<Bounds> {
        if self.wish.sensitivity == Sensitivity::Off || self.wish.mode == Mode::Off {
            return None;
        }
        let bounds = Bounds::of(self.wish.sensitivity);
        Some(if self.is_known(&bounds, now) {
            bounds
        } else {
            bounds.of_strangers()
        })
    }

    fn is_known(&self, bounds: &Bounds, now: Duration) -> bool {
        self.baseline.samples().len() >= bounds.baseline_samples
            && self.baseline.age(now) >= bounds.learn
    }

    fn decide(&self, bounds: &Bounds, rate: u64, now: Duration) -> Option<(Fingerprint, Evidence)> {
        let calm = self.baseline.samples().iter();
        let is_known = self.is_known(bounds, now);
        let proven = self.baseline.proven().filter(|_| !is_known);
        let samples = calm.chain(proven);
        let found = fingerprint::find(&self.suspects, samples.clone(), bounds)?;
        let since = self.flooded_since.unwrap_or(now);
        let after = now.saturating_sub(since);
        let evidence = Evidence {
            rate,
            usual_rate: self.baseline.usual_rate(),
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            samples: self.suspects.len(),
            matching: found.matching,
            sources: found.sources,
            baseline_samples: samples.count(),
            baseline_matching: found.spared_matching,
        };
        Some((found.fingerprint, evidence))
    }
}

fn per_second(weight: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    weight.saturating_mul(1000) / millis.max(1)
}
