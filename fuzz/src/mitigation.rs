//! Any traffic, at any times: what the mitigation engine decides is bounded, matches the flood, and
//! spares what it says it spares.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use spectrum_common::signature::{Fields, SignatureMask};
use spectrum_ebpf::signatures::masked;
use spectrum_user::{
    config::{AppId, Mode, Sensitivity},
    dataplane::signatures::{Placed, Signature},
    mitigation::{Decision, Engine, Evidence, Facts, Mitigation, Observation, WINDOW, Wish},
};

/// Signatures of an app at once.
const MOST: usize = 8;
/// Samples of a flood that are looked at, and fewer than which are not.
const SAMPLES: std::ops::RangeInclusive<usize> = 32..=256;
/// Sources that a flood has at least.
const LEAST_SOURCES: usize = 8;
/// Samples that are kept of calm hours, and of sources that have proved to be real.
const MOST_CALM: usize = 1024 + 256;
/// Samples after which an input has had its say: floods are slow to search.
const MOST_SAMPLES: u64 = 5000;
/// Windows that one step lets pass.
const LONGEST: u8 = 100;

const APPS: [AppId; 2] = [AppId([1; 16]), AppId([2; 16])];

/// What may happen.
#[derive(Arbitrary, Debug)]
enum Step {
    /// The documents change.
    Wish {
        app: bool,
        sensitivity: u8,
        mode: u8,
    },
    /// The documents drop the app.
    Leave {
        app: bool,
    },
    /// Some windows, with so many samples of a kind in each.
    Traffic {
        app: bool,
        kind: Kind,
        samples: u8,
        weight: u16,
        windows: u8,
    },
    Accept {
        id: u8,
    },
    Remove {
        id: u8,
    },
    /// The data plane refuses a signature.
    Forget {
        id: u8,
    },
    /// The engine is not asked for a while, or the clock does not move.
    Pause {
        milliseconds: u16,
    },
}

/// Packets that have something in common; a field that is `None` differs from packet to packet.
#[derive(Arbitrary, Clone, Debug)]
struct Kind {
    is_tcp: bool,
    length: Option<u8>,
    ttl: Option<u8>,
    source_port: Option<u8>,
    payload: Option<u8>,
    sources: u8,
    are_proven: bool,
}

impl Kind {
    fn packet(&self, number: u64) -> Facts {
        let length = self
            .length
            .map_or(100 + number % 97, |length| 60 + u64::from(length % 4));
        let ttl = self.ttl.map_or(number % 61, |ttl| 64 + u64::from(ttl % 4));
        let port = self.source_port.map_or(1024 + number % 9973, u64::from);
        let payload = self.payload.map_or(number, |byte| u64::from(byte % 4));
        let protocol = if self.is_tcp { 6 } else { 17 };
        Facts {
            fields: Fields {
                endpoint: port << 32 | 7000 << 16 | protocol << 8 | 4,
                header: length << 48 | ttl << 24,
                payload: [payload.wrapping_mul(0x9e37_79b9_7f4a_7c15), number],
            },
            payload_length: u16::try_from(length - 28).unwrap(),
        }
    }
}

pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let mut scene = Scene::default();
    while !data.is_empty() && scene.samples < MOST_SAMPLES {
        let Ok(step) = Step::arbitrary(&mut data) else {
            return;
        };
        scene.take(step);
        scene.holds();
    }
}

#[derive(Default)]
struct Scene {
    engine: Engine,
    wishes: BTreeMap<AppId, Wish>,
    now: Duration,
    /// What holds by the decisions so far.
    active: BTreeMap<u32, Mitigation>,
    /// Everything that came, by app.
    seen: BTreeMap<AppId, Vec<Facts>>,
    samples: u64,
}

impl Scene {
    fn take(&mut self, step: Step) {
        match step {
            Step::Wish {
                app,
                sensitivity,
                mode,
            } => {
                let sensitivities = [Sensitivity::High, Sensitivity::Medium, Sensitivity::Low];
                let wish = Wish {
                    sensitivity: sensitivities[usize::from(sensitivity % 3)],
                    mode: [Mode::Enforce, Mode::Monitor][usize::from(mode % 2)],
                };
                self.wishes.insert(APPS[usize::from(app)], wish);
                self.configure();
            }
            Step::Leave { app } => {
                self.wishes.remove(&APPS[usize::from(app)]);
                self.configure();
            }
            Step::Traffic {
                app,
                kind,
                samples,
                weight,
                windows,
            } => {
                for _ in 0..windows % LONGEST {
                    self.window(APPS[usize::from(app)], &kind, samples, weight);
                }
            }
            Step::Accept { id } => {
                let accepted = self.engine.accept(id.into());
                assert_eq!(accepted.is_ok(), self.active.contains_key(&id.into()));
                if let Ok(accepted) = accepted {
                    self.active.insert(accepted.id, accepted);
                }
            }
            Step::Remove { id } => {
                let removed = self.engine.remove(id.into(), self.now);
                assert_eq!(removed.is_ok(), self.active.remove(&id.into()).is_some());
            }
            Step::Forget { id } => {
                self.engine.forget(id.into(), self.now);
                self.active.remove(&id.into());
            }
            Step::Pause { milliseconds } => {
                self.now += Duration::from_millis(milliseconds.into());
                self.tick();
            }
        }
    }

    fn configure(&mut self) {
        let decisions = self.engine.configure(&self.wishes, self.now);
        assert!(decisions.len() <= MOST * APPS.len());
        for decision in decisions {
            assert!(!matches!(decision, Decision::Install(_)), "without a flood");
            self.carry_out(decision);
        }
    }

    fn window(&mut self, app: AppId, kind: &Kind, samples: u8, weight: u16) {
        for _ in 0..samples {
            self.samples += 1;
            let source = u32::try_from(self.samples).unwrap() % (u32::from(kind.sources) + 1);
            let packet = kind.packet(self.samples);
            let observation = Observation {
                app,
                source: Ipv4Addr::from(source).into(),
                weight: weight.into(),
                packet,
                is_proven: kind.are_proven,
            };
            self.engine.observe(&observation, self.now);
            self.seen.entry(app).or_default().push(packet);
        }
        self.now += WINDOW;
        self.tick();
    }

    fn tick(&mut self) {
        let decisions = self.engine.tick(self.now);
        let installed = decisions
            .iter()
            .filter(|decision| matches!(decision, Decision::Install(_)));
        assert!(installed.count() <= APPS.len(), "one at a time");
        assert!(decisions.len() <= (MOST + 1) * APPS.len());
        for decision in decisions {
            self.carry_out(decision);
        }
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::Install(mitigation) => {
                self.is_well_founded(&mitigation);
                let replaced = self.active.insert(mitigation.id, mitigation);
                assert_eq!(replaced, None, "an id is given once");
            }
            Decision::Extend(mitigation) => {
                let before = self.active.insert(mitigation.id, mitigation.clone());
                let before = before.expect("it was installed before");
                assert_eq!(before.fingerprint, mitigation.fingerprint);
                assert!(mitigation.expires >= before.expires);
            }
            Decision::Remove(mitigation) => {
                assert_eq!(self.active.remove(&mitigation.id), Some(mitigation));
            }
        }
    }

    /// It matches what it says, spares what it says, and the data plane can hold it.
    fn is_well_founded(&self, mitigation: &Mitigation) {
        let wish = self.wishes[&mitigation.app];
        assert_eq!(mitigation.mode, wish.mode);
        let Evidence {
            samples,
            matching,
            sources,
            baseline_samples,
            baseline_matching,
            ..
        } = mitigation.evidence.expect("it is new");
        assert!(SAMPLES.contains(&samples));
        assert!(LEAST_SOURCES <= sources && sources <= matching && matching <= samples);
        assert!(baseline_samples <= MOST_CALM);
        let (coverage, spared) = match wish.sensitivity {
            Sensitivity::High => (15, 50),
            Sensitivity::Medium => (30, 10),
            Sensitivity::Low | Sensitivity::Off => (50, 1),
        };
        assert!(matching * 100 >= samples * coverage);
        assert!(baseline_matching * 1000 <= baseline_samples * spared);

        let fingerprint = mitigation.fingerprint;
        assert!(!fingerprint.to_string().is_empty());
        let seen = self.seen[&mitigation.app].iter().rev().take(4 * samples);
        let matched = seen.filter(|packet| fingerprint.matches(packet)).count();
        assert!(matched > 0, "{fingerprint} matches nothing that came");
        can_be_placed(mitigation);
    }

    /// The engine and those who carried out its decisions agree.
    fn holds(&self) {
        let active: Vec<Mitigation> = self.engine.active().into_iter().cloned().collect();
        let expected: Vec<Mitigation> = self.active.values().cloned().collect();
        assert_eq!(active, expected);
        for app in APPS {
            let of_app = active.iter().filter(|mitigation| mitigation.app == app);
            assert!(of_app.count() <= MOST);
        }
        let views = self.engine.views(self.now);
        assert!(views.keys().eq(self.wishes.keys()));
    }
}

/// As the daemon installs it: what it looks for comes back out of the maps.
fn can_be_placed(mitigation: &Mitigation) {
    const SLOT: u32 = 3;
    let SignatureMask { fields, .. } = mitigation.fingerprint.mask;
    let looked_for = (mitigation.fingerprint.mask, mitigation.fingerprint.key);
    assert_eq!(masked(&looked_for.1, &fields), looked_for.1);
    let signature = Signature::of_mitigation(mitigation.id, SLOT, looked_for, mitigation.mode, 1);
    assert_eq!(signature.unscoped(), looked_for);
    assert_eq!(signature.id(), mitigation.id);
    assert_eq!(signature.scope(), SLOT);
    let placed = Placed::new(&BTreeMap::new(), &[signature]).expect("room for one");
    assert_eq!(placed.masks_of(SLOT).map(|(_, count)| count).ok(), Some(1));
}
