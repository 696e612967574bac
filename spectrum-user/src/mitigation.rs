//! The mitigation engine: what the packets of a flood have in common becomes a signature.
//!
//! Pure: samples and the time go in, [`Decision`]s come out, and somebody else carries them out.
//! For each app the engine keeps a `baseline` of its calm hours: how many packets come, and what
//! they look like. A flood is far more than that, for two windows in a row. Among its samples,
//! `fingerprint` counts combinations of header fields and first payload bytes, and picks the most
//! selective one that covers the flood and spares the baseline. A crowd of real clients looks like
//! the clients before it, so that nothing about it spares the baseline, and nothing is done. Until the
//! calm hours of an app are known, what sources send that have proved to be real is its baseline.

mod baseline;
mod fingerprint;
mod flood;
mod sensitivity;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use spectrum_common::signature::Fields;

pub use fingerprint::Fingerprint;

use crate::config::{AppId, Mode, Sensitivity};
use flood::AppState;

/// How often [`Engine::tick`] wants to be called: rates are measured in windows of this length.
pub const WINDOW: Duration = Duration::from_millis(200);

/// How long a signature holds in the data plane, should the engine be silent.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// One sampled packet that met the mitigations of its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub app: AppId,
    pub source: IpAddr,
    /// The source has proved to be real.
    pub is_proven: bool,
    /// Packets that it stands for.
    pub weight: u32,
    pub packet: Facts,
}

/// What a packet looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Without the slot of the app.
    pub fields: Fields,
    /// Bytes of payload; how many of the payload's fields are there.
    pub payload_length: u16,
}

/// What an app wants of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub sensitivity: Sensitivity,
    pub mode: Mode,
}

/// A signature that the engine has installed. Times are on the clock of [`Engine::tick`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mitigation {
    pub id: u32,
    pub app: AppId,
    pub fingerprint: Fingerprint,
    pub mode: Mode,
    pub installed: Duration,
    /// `None`: the operator accepted it.
    pub expires: Option<Duration>,
    /// Absent for one that an earlier run installed.
    pub evidence: Option<Evidence>,
}

/// Why a signature was installed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Packets per second at that time, those of earlier mitigations left out.
    pub rate: u64,
    /// The most per second that the app was used to.
    pub usual_rate: u64,
    /// Milliseconds since the flood was first seen.
    pub after_ms: u64,
    /// Samples of the flood, and how many of them the fingerprint matches.
    pub samples: usize,
    pub matching: usize,
    /// Different sources among these.
    pub sources: usize,
    /// Samples of calm hours, or of sources that have proved to be real, and how many of them the
    /// fingerprint matches.
    pub baseline_samples: usize,
    pub baseline_matching: usize,
}

/// What the engine makes of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub state: State,
    /// The most packets per second that the app is used to.
    pub usual_rate: u64,
    /// Samples of calm hours that a signature has to spare.
    pub baseline_samples: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The app's clients are hardly known: only a great flood that is nearly all alike is met.
    Learning,
    Calm,
    Flooded,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Install(Mitigation),
    /// It still matches: it holds until `expires`.
    Extend(Mitigation),
    /// It has stopped matching, or its app wants no mitigation any more.
    Remove(Mitigation),
}

/// Why the operator's wish cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mitigation has the id {0}\n  help: `spectrum mitigations` lists them")]
pub struct Unknown(pub u32);

/// The engine for all apps.
#[derive(Debug, Default)]
pub struct Engine {
    apps: BTreeMap<AppId, AppState>,
    next_id: u32,
}

impl Engine {
    /// Follows the configuration: apps that are gone, or want no mitigation, are forgotten.
    pub fn configure(&mut self, wishes: &BTreeMap<AppId, Wish>, now: Duration) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.apps.retain(|app, state| {
            let stays = wishes.contains_key(app);
            if !stays {
                let active = state.take_active();
                decisions.extend(active.into_iter().map(Decision::Remove));
            }
            stays
        });
        for (&app, &wish) in wishes {
            let state = self.apps.entry(app);
            let state = state.or_insert_with(|| AppState::new(wish, now));
            decisions.extend(state.set_wish(wish));
        }
        decisions
    }

    /// Takes over a signature that an earlier run installed.
    pub fn adopt(&mut self, mitigation: Mitigation) {
        self.next_id = self.next_id.max(mitigation.id);
        if let Some(state) = self.apps.get_mut(&mitigation.app) {
            state.adopt(mitigation);
        }
    }

    /// Learns of a packet.
    pub fn observe(&mut self, observation: &Observation, now: Duration) {
        if let Some(state) = self.apps.get_mut(&observation.app) {
            state.observe(observation, now);
        }
    }

    /// Closes a window and decides.
    pub fn tick(&mut self, now: Duration) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (&app, state) in &mut self.apps {
            decisions.extend(state.upkeep(now));
            let Some((fingerprint, evidence)) = state.close_window(now) else {
                continue;
            };
            self.next_id += 1;
            let mitigation = Mitigation {
                id: self.next_id,
                app,
                fingerprint,
                mode: state.mode(),
                installed: now,
                expires: Some(now + LIFETIME),
                evidence: Some(evidence),
            };
            state.install(&mitigation, evidence.rate);
            decisions.push(Decision::Install(mitigation));
        }
        decisions
    }

    /// A signature could not be installed: it does not hold, and another is tried after a while.
    pub fn forget(&mut self, id: u32, now: Duration) {
        self.apps
            .values_mut()
            .for_each(|state| state.forget(id, now));
    }

    /// The signatures that hold, oldest first.
    pub fn active(&self) -> Vec<&Mitigation> {
        let mut active: Vec<_> = self.apps.values().flat_map(AppState::active).collect();
        active.sort_by_key(|mitigation| mitigation.id);
        active
    }

    /// What the engine makes of each app.
    pub fn views(&self, now: Duration) -> BTreeMap<AppId, View> {
        let views = self.apps.iter().map(|(&app, state)| (app, state.view(now)));
        views.collect()
    }

    /// Keeps a signature until it is removed.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn accept(&mut self, id: u32) -> Result<Mitigation, Unknown> {
        let mut states = self.apps.values_mut();
        states.find_map(|state| state.accept(id)).ok_or(Unknown(id))
    }

    /// Removes a signature, and leaves alone what it matches for a while.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn remove(&mut self, id: u32, now: Duration) -> Result<Mitigation, Unknown> {
        let mut states = self.apps.values_mut();
        let removed = states.find_map(|state| state.remove(id, now));
        removed.ok_or(Unknown(id))
    }
}

#[cfg(test)]
mod tests;
