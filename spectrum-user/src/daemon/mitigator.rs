//! The mitigation engine at work: samples go in, and what it decides goes to the filters, into the
//! log of events, and to whoever asks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::shield::{Seen, Shield};
use crate::{
    config::{AppId, Config},
    dataplane::{
        clock,
        signatures::{Hits, Signature},
    },
    event::{self, MitigationKind, MitigationRecord},
    mitigation::{Decision, Engine, Facts, Fingerprint, Mitigation, Observation, Wish},
    status::{AppStatus, MitigationStatus},
};

pub(super) struct Mitigator {
    engine: Engine,
    events: event::Sink,
}

impl Mitigator {
    /// Takes over what an earlier run installed.
    pub(super) fn start(config: &Config, shield: &mut Shield, events: event::Sink) -> Result<Self> {
        let mut mitigator = Self {
            engine: Engine::default(),
            events,
        };
        mitigator.configure(config, shield);
        for ((app, id), (signature, _)) in shield.mitigations()? {
            let Some(wish) = wish(config, app) else {
                shield.remove_mitigation(app, id)?;
                continue;
            };
            let (mask, key) = signature.unscoped();
            let expires_ns = signature.rule.expires_ns;
            mitigator.engine.adopt(Mitigation {
                id,
                app,
                fingerprint: Fingerprint { mask, key },
                mode: wish.mode,
                installed: now(),
                expires: (expires_ns != 0).then(|| Duration::from_nanos(expires_ns)),
                evidence: None,
            });
        }
        Ok(mitigator)
    }

    /// Follows the documents.
    pub(super) fn configure(&mut self, config: &Config, shield: &mut Shield) {
        let apps = config.apps.iter().map(|app| app.id);
        let wishes = apps.filter_map(|app| Some((app, wish(config, app)?)));
        let decisions = self.engine.configure(&wishes.collect(), now());
        self.carry_out(decisions, shield);
    }

    /// Learns from the samples since the last look, and decides. Packets of no app are nobody's
    /// concern.
    pub(super) fn tick(&mut self, samples: &[Seen], shield: &mut Shield) {
        let now = now();
        for seen in samples {
            if let Some(app) = seen.app.filter(|_| seen.sample.met_mitigations()) {
                self.engine.observe(&observation(app, seen), now);
            }
        }
        let decisions = self.engine.tick(now);
        self.carry_out(decisions, shield);
    }

    /// Keeps a mitigation without end.
    pub(super) fn accept(&mut self, id: u32, shield: &mut Shield) -> Result<MitigationStatus> {
        let mitigation = self.engine.accept(id)?;
        put(shield, &mitigation)?;
        log::info!("mitigation {id} stays until it is removed");
        self.note(MitigationKind::MitigationAccepted, &mitigation);
        Ok(status(&mitigation, Hits::default()))
    }

    /// Ends a mitigation; the engine leaves alone what it matched.
    pub(super) fn remove(&mut self, id: u32, shield: &mut Shield) -> Result<MitigationStatus> {
        let mitigation = self.engine.remove(id, now())?;
        shield.remove_mitigation(mitigation.app, id)?;
        log::info!("mitigation {id} removed by the operator");
        self.note(MitigationKind::MitigationRemoved, &mitigation);
        Ok(status(&mitigation, Hits::default()))
    }

    /// Adds to each app what the engine makes of it, and what it has installed.
    pub(super) fn describe(&self, apps: &mut [AppStatus], shield: &Shield) -> Result<()> {
        let views = self.engine.views(now());
        let installed = shield.mitigations()?;
        for app in apps {
            let Some(id) = AppId::parse(&app.id) else {
                continue;
            };
            app.engine = views.get(&id).copied();
            let active = self.engine.active();
            let of_app = active.iter().filter(|mitigation| mitigation.app == id);
            let described = of_app.map(|mitigation| {
                let found = installed.get(&(id, mitigation.id));
                status(mitigation, found.map(|(_, hits)| *hits).unwrap_or_default())
            });
            app.mitigations = described.collect();
        }
        Ok(())
    }

    fn carry_out(&mut self, decisions: Vec<Decision>, shield: &mut Shield) {
        for decision in decisions {
            let (kind, mitigation) = match &decision {
                Decision::Install(new) => (MitigationKind::MitigationInstalled, new),
                Decision::Extend(known) => (MitigationKind::MitigationExtended, known),
                Decision::Remove(old) => (MitigationKind::MitigationExpired, old),
            };
            let Mitigation { id, app, .. } = *mitigation;
            let done = match &decision {
                Decision::Install(_) | Decision::Extend(_) => put(shield, mitigation),
                Decision::Remove(_) => shield.remove_mitigation(app, id),
            };
            match done {
                Ok(()) => log_decision(&decision),
                Err(error) => {
                    log::error!("cannot carry out mitigation {id}: {error:#}");
                    self.engine.forget(id, now());
                    continue;
                }
            }
            self.note(kind, mitigation);
        }
    }

    fn note(&self, event: MitigationKind, mitigation: &Mitigation) {
        self.events.send_mitigation(MitigationRecord {
            event,
            application: mitigation.app,
            colo_code: self.events.host(),
            mitigation: mitigation.id,
            fingerprint: mitigation.fingerprint.to_string(),
            mode: mitigation.mode.word(),
            expires: mitigation.expires.and_then(moment),
            evidence: mitigation.evidence,
            timestamp: Timestamp::now(),
        });
    }
}

/// `None` if the app wants no mitigation.
fn wish(config: &Config, app: AppId) -> Option<Wish> {
    let app = config.apps.iter().find(|known| known.id == app)?;
    let mitigation = app.protection.mitigation;
    mitigation.is_on().then_some(Wish {
        sensitivity: mitigation.sensitivity,
        mode: mitigation.mode,
    })
}

fn observation(app: AppId, seen: &Seen) -> Observation {
    let sample = &seen.sample;
    Observation {
        app,
        source: sample.packet.source.into(),
        is_proven: seen.is_proven,
        weight: sample.weight,
        packet: Facts {
            fields: sample.fields,
            payload_length: sample.packet.payload_length,
        },
    }
}

fn put(shield: &mut Shield, mitigation: &Mitigation) -> Result<()> {
    let Fingerprint { mask, key } = mitigation.fingerprint;
    let expires = mitigation.expires.map_or(0, nanoseconds);
    shield
        .put_mitigation(mitigation.app, |slot| {
            Signature::of_mitigation(mitigation.id, slot, (mask, key), mitigation.mode, expires)
        })
        .context("cannot install the signature")
}

fn log_decision(decision: &Decision) {
    match decision {
        Decision::Install(Mitigation {
            id,
            fingerprint,
            evidence: Some(evidence),
            mode,
            ..
        }) => log::warn!(
            "flood of {} packets/s (at most {} before): mitigation {id} ({mode}) for {fingerprint}, \
             {} of {} samples, after {} ms",
            evidence.rate,
            evidence.usual_rate,
            evidence.matching,
            evidence.samples,
            evidence.after_ms
        ),
        Decision::Install(mitigation) | Decision::Extend(mitigation) => {
            log::debug!("mitigation {} holds on", mitigation.id);
        }
        Decision::Remove(mitigation) => log::info!("mitigation {} is over", mitigation.id),
    }
}

fn status(mitigation: &Mitigation, hits: Hits) -> MitigationStatus {
    MitigationStatus {
        id: mitigation.id,
        fingerprint: mitigation.fingerprint.to_string(),
        mode: mitigation.mode.word().to_owned(),
        installed: moment(mitigation.installed),
        expires: mitigation.expires.and_then(moment),
        hits,
        evidence: mitigation.evidence,
    }
}

/// The clock of the engine, which is the one that signatures expire by.
fn now() -> Duration {
    Duration::from_nanos(clock::monotonic_coarse_ns())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall-clock time of a moment on the engine's clock.
fn moment(then: Duration) -> Option<Timestamp> {
    let (now, wall) = (now(), Timestamp::now());
    match now.checked_sub(then) {
        Some(ago) => wall.checked_sub(ago).ok(),
        None => wall.checked_add(then.saturating_sub(now)).ok(),
    }
}
