//! Synthetic traffic, on a clock of its own: a flood has to go, and clients have to stay.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const APP: AppId = AppId([1; 16]);

/// One kind of packet: what is fixed has a value, the rest differs from packet to packet.
#[derive(Clone, Debug, Default)]
struct Kind {
    length: Option<u64>,
    ttl: Option<u64>,
    source_port: Option<u64>,
    payload: Option<u64>,
}

impl Kind {
    fn packet(&self, random: &mut Rng) -> Facts {
        let length = self.length.unwrap_or_else(|| 60 + random.u64(..400));
        let ttl = self.ttl.unwrap_or_else(|| 40 + random.u64(..88));
        let source_port = self
            .source_port
            .unwrap_or_else(|| 1024 + random.u64(..60_000));
        let payload = self.payload.unwrap_or_else(|| random.u64(..));
        Facts {
            fields: Fields {
                endpoint: source_port << 32 | 7000 << 16 | 17 << 8 | 4,
                header: length << 48 | ttl << 24,
                payload: [payload, random.u64(..)],
            },
            payload_length: u16::try_from(length - 28).unwrap_or_default(),
        }
    }
}

/// The clients of a game: a few kinds of packets, each with a share.
fn clients(random: &mut Rng) -> Facts {
    if random.u64(..4) == 0 {
        return hello(random);
    }
    Kind::default().packet(random)
}

/// Packets per second of a kind.
type Stream<'a> = (u64, &'a dyn Fn(&mut Rng) -> Facts);

/// An engine, its traffic, and what it decided.
struct Scene {
    engine: Engine,
    random: Rng,
    now: Duration,
    decisions: Vec<Decision>,
    /// All packets come from one source.
    lone_source: bool,
    /// How many sources send the first kind of packets, all of which have proved to be real; 0: it is
    /// like the others.
    proven_sources: u32,
}

impl Scene {
    fn new(sensitivity: Sensitivity, seed: u64) -> Self {
        let mut engine = Engine::default();
        let wish = Wish {
            sensitivity,
            mode: Mode::Enforce,
        };
        engine.configure(&[(APP, wish)].into(), Duration::ZERO);
        Self {
            engine,
            random: Rng::with_seed(seed),
            now: Duration::ZERO,
            decisions: Vec::new(),
            lone_source: false,
            proven_sources: 0,
        }
    }

    /// Lets traffic come for a while: packets per second of each kind, of which 250 are sampled.
    fn play(&mut self, seconds: u64, traffic: &[Stream<'_>]) {
        let total: u64 = traffic.iter().map(|(rate, _)| rate).sum();
        let samples = total.clamp(1, 250);
        for _ in 0..seconds * 5 {
            for _ in 0..samples.div_ceil(5) {
                let mut at = self.random.u64(..total.max(1));
                let kind = traffic.iter().position(|(rate, _)| {
                    let is_this = at < *rate;
                    at = at.saturating_sub(*rate);
                    is_this
                });
                let Some(kind) = kind else { continue };
                let packet = traffic[kind].1(&mut self.random);
                let is_proven = kind == 0 && self.proven_sources > 0;
                let source = if self.lone_source {
                    7
                } else if is_proven {
                    self.random.u32(..self.proven_sources)
                } else {
                    self.random.u32(..)
                };
                let observation = Observation {
                    app: APP,
                    source: std::net::Ipv4Addr::from(source).into(),
                    is_proven,
                    weight: u32::try_from(total / samples).unwrap_or(u32::MAX).max(1),
                    packet,
                };
                self.engine.observe(&observation, self.now);
            }
            self.now += WINDOW;
            self.decisions.extend(self.engine.tick(self.now));
        }
    }

    fn installed(&self) -> Vec<&Mitigation> {
        let installed = self.decisions.iter().filter_map(|decision| match decision {
            Decision::Install(mitigation) => Some(mitigation),
            Decision::Extend(_) | Decision::Remove(_) => None,
        });
        installed.collect()
    }

    /// The share of a kind of packets that the signatures match, in percent.
    fn matched(&mut self, packet: &dyn Fn(&mut Rng) -> Facts) -> usize {
        let active: Vec<Fingerprint> = self
            .engine
            .active()
            .iter()
            .map(|mitigation| mitigation.fingerprint)
            .collect();
        let packets = (0..1000).map(|_| packet(&mut self.random));
        let matched =
            packets.filter(|packet| active.iter().any(|fingerprint| fingerprint.matches(packet)));
        matched.count() / 10
    }
}

fn fixed_prefix(random: &mut Rng) -> Facts {
    let kind = Kind {
        length: Some(92),
        payload: Some(0x1337_1337_dead_beef),
        ..Kind::default()
    };
    kind.packet(random)
}

#[test]
fn a_flood_with_a_fixed_payload_is_met_within_a_second_and_forgotten_after_it() {
    let mut scene = Scene::new(Sensitivity::Medium, 1);
    scene.play(30, &[(200, &clients)]);
    assert_eq!(scene.decisions, []);

    scene.play(1, &[(200, &clients), (40_000, &fixed_prefix)]);
    let [mitigation] = scene.installed()[..] else {
        panic!("{:?}", scene.decisions);
    };
    let evidence = mitigation.evidence.expect("it was installed now");
    assert!(
        evidence.rate > 30_000 && evidence.usual_rate < 400,
        "{evidence:?}"
    );
    assert!(evidence.baseline_samples >= 64 && evidence.baseline_matching == 0);
    assert!(
        evidence.matching * 100 >= evidence.samples * 90,
        "{evidence:?}"
    );
    let shown = mitigation.fingerprint.to_string();
    assert_eq!(shown, "length 92, payload 13 37 13 37 de ad be ef");
    assert!(scene.matched(&fixed_prefix) >= 99);
    assert_eq!(scene.matched(&clients), 0);

    // It holds for as long as it matches, however long that is.
    scene.play(120, &[(200, &clients), (40_000, &fixed_prefix)]);
    assert_eq!(scene.installed().len(), 1);
    assert_eq!(scene.engine.active().len(), 1);
    scene.play(15, &[(200, &clients)]);
    assert_eq!(scene.engine.active().len(), 0);
    let last = scene.decisions.last();
    assert!(matches!(last, Some(Decision::Remove(_))), "{last:?}");
}

#[test]
fn a_second_vector_gets_a_signature_of_its_own() {
    let reflected = |random: &mut Rng| {
        let kind = Kind {
            source_port: Some(4444),
            ttl: Some(61),
            ..Kind::default()
        };
        kind.packet(random)
    };
    let mut scene = Scene::new(Sensitivity::Medium, 2);
    scene.play(30, &[(200, &clients)]);
    let flood: [Stream<'_>; 3] = [
        (200, &clients),
        (30_000, &fixed_prefix),
        (25_000, &reflected),
    ];
    scene.play(3, &flood);
    assert_eq!(scene.installed().len(), 2, "{:?}", scene.decisions);
    assert!(scene.matched(&fixed_prefix) >= 99 && scene.matched(&reflected) >= 99);
    assert_eq!(scene.matched(&clients), 0);
}

/// The first packet of a client looks the same for all clients, and is a quarter of what comes: a
/// crowd of new clients must not make it a flood.
#[test]
fn a_crowd_of_real_clients_is_let_alone() {
    for sensitivity in [Sensitivity::Low, Sensitivity::Medium, Sensitivity::High] {
        let mut scene = Scene::new(sensitivity, 3);
        scene.play(90, &[(200, &clients)]);
        scene.play(20, &[(60_000, &clients)]);
        assert_eq!(scene.decisions, [], "{sensitivity}");
    }
}

#[test]
fn a_server_that_has_just_opened_is_not_cut_off_from_its_first_crowd() {
    let mut scene = Scene::new(Sensitivity::Medium, 4);
    scene.play(5, &[(0, &clients)]);
    scene.play(20, &[(60_000, &clients)]);
    assert_eq!(scene.decisions, []);
}

/// What every client of [`clients`] says now and then.
fn hello(random: &mut Rng) -> Facts {
    let kind = Kind {
        length: Some(53),
        payload: Some(0xffff_ffff_5453_6f75),
        ..Kind::default()
    };
    kind.packet(random)
}

/// Before anything is known of an app, a flood that looks like what its clients say would cut them
/// off, if they had not proved to be real.
#[test]
fn clients_that_are_real_are_spared_from_the_first_second_on() {
    for sensitivity in [Sensitivity::Low, Sensitivity::Medium, Sensitivity::High] {
        for (sources, spared) in [(0, false), (20, true)] {
            let mut scene = Scene::new(sensitivity, 8);
            scene.proven_sources = sources;
            scene.play(1, &[(200, &clients)]);
            scene.play(5, &[(200, &clients), (100_000, &hello)]);
            let is_spared = scene.matched(&clients) == 0;
            assert_eq!(is_spared, spared, "{sensitivity}: {:?}", scene.decisions);
            // What the clients do not say is no matter of theirs.
            scene.play(15, &[(200, &clients)]);
            scene.play(3, &[(200, &clients), (200_000, &fixed_prefix)]);
            assert!(scene.matched(&fixed_prefix) >= 99, "{:?}", scene.decisions);
        }
    }
}

/// Whoever attacks has a real address, too, and may prove it.
#[test]
fn one_real_source_that_joins_a_flood_does_not_shield_it_for_long() {
    let mut scene = Scene::new(Sensitivity::Medium, 9);
    scene.play(30, &[(200, &clients)]);
    scene.proven_sources = 1;
    scene.play(
        3,
        &[
            (1000, &fixed_prefix),
            (40_000, &fixed_prefix),
            (200, &clients),
        ],
    );
    assert!(scene.matched(&fixed_prefix) >= 99, "{:?}", scene.decisions);
    assert_eq!(scene.matched(&clients), 0);
}

/// What a single source sends is for the limits per source, however much it is.
#[test]
fn a_busy_new_client_is_no_flood() {
    let mut scene = Scene::new(Sensitivity::High, 7);
    scene.play(30, &[(200, &clients)]);
    scene.lone_source = true;
    scene.play(10, &[(40_000, &fixed_prefix)]);
    assert_eq!(scene.decisions, []);
}

#[test]
fn what_the_operator_removes_stays_away_and_what_he_accepts_stays() {
    let mut scene = Scene::new(Sensitivity::Medium, 5);
    scene.play(30, &[(200, &clients)]);
    let flood: [Stream<'_>; 2] = [(200, &clients), (40_000, &fixed_prefix)];
    scene.play(2, &flood);
    let id = scene.installed()[0].id;
    let accepted = scene.engine.accept(id).expect("it is there");
    assert_eq!(accepted.expires, None);
    scene.play(60, &[(200, &clients)]);
    assert_eq!(
        scene.engine.active().len(),
        1,
        "no flood, and it is there still"
    );

    scene.engine.remove(id, scene.now).expect("it is there");
    assert_eq!(scene.engine.remove(id, scene.now), Err(Unknown(id)));
    scene.play(30, &flood);
    assert_eq!(scene.engine.active().len(), 0, "{:?}", scene.decisions);
}

#[test]
fn an_app_that_wants_no_mitigation_gets_none_and_loses_what_it_had() {
    let mut scene = Scene::new(Sensitivity::Medium, 6);
    scene.play(30, &[(200, &clients)]);
    scene.play(2, &[(40_000, &fixed_prefix)]);
    let removed = scene.engine.configure(&BTreeMap::new(), scene.now);
    assert!(matches!(removed[..], [Decision::Remove(_)]), "{removed:?}");
    scene.decisions.clear();
    scene.play(5, &[(40_000, &fixed_prefix)]);
    assert_eq!(scene.decisions, []);
}

fn kind() -> impl Strategy<Value = Kind> {
    let parts = (
        prop::option::of(60_u64..1400),
        prop::option::of(1_u64..=255),
        prop::option::of(1_u64..=0xffff),
        prop::option::of(any::<u64>()),
    );
    parts.prop_map(|(length, ttl, source_port, payload)| Kind {
        length,
        ttl,
        source_port,
        payload,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever an app's clients send, more of the same is no flood.
    #[test]
    fn more_of_the_same_is_no_flood(kinds in prop::collection::vec(kind(), 1..5), seed: u64) {
        let of_clients = |random: &mut Rng| {
            let index = usize::try_from(random.u64(..kinds.len() as u64)).unwrap_or_default();
            kinds[index].packet(random)
        };
        let mut scene = Scene::new(Sensitivity::High, seed);
        scene.play(30, &[(250, &of_clients)]);
        scene.play(10, &[(100_000, &of_clients)]);
        prop_assert_eq!(scene.decisions, []);
    }

    /// A flood whose packets share enough is met, and the clients are spared.
    #[test]
    fn a_flood_is_met_and_clients_are_spared(flood in kind(), seed: u64) {
        let points = [flood.length, flood.ttl, flood.source_port].iter().flatten().count()
            + 4 * usize::from(flood.payload.is_some());
        prop_assume!(points >= 2);
        let of_flood = |random: &mut Rng| flood.packet(random);
        let mut scene = Scene::new(Sensitivity::Medium, seed);
        scene.play(30, &[(200, &clients)]);
        scene.play(2, &[(200, &clients), (50_000, &of_flood)]);
        prop_assert!(scene.matched(&of_flood) >= 95, "{:?}", scene.decisions);
        prop_assert!(scene.matched(&clients) <= 2, "{:?}", scene.decisions);
        prop_assert!(scene.engine.active().len() <= 8);
    }
}
