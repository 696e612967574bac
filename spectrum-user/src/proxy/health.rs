//! Health checks: one task for each origin that has one.
//!
//! What a check finds is in the origin's state, where the workers see it at their next choice.

mod http;
mod probe;
mod streak;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    origins::{CheckSnapshot, OriginState},
    routes::Routes,
    service::Service,
    tasks::report_panic,
};
use crate::{
    config::{App, AppId, Health},
    event::{OriginKind, OriginRecord, Sink},
};
use probe::{Failure, Probe};
use streak::{Change, Streak};

/// One origin with what it takes to check it.
#[derive(Clone)]
struct Target {
    state: Arc<OriginState>,
    /// Where it is, with the port of the app's first.
    address: SocketAddr,
    app: Arc<App>,
    health: Health,
    events: Sink,
}

impl Target {
    /// Whether a check may go on as it is.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
            && self.health == other.health
            && self.app.proxy_protocol == other.app.proxy_protocol
            && self.address == other.address
    }
}

/// Those of the origins that are checked and not in maintenance: one that is has a right to be
/// away.
fn targets(services: &[Arc<Service>]) -> Vec<Target> {
    let of_service = |service: &Arc<Service>| {
        let serving = service.serving();
        let app = &serving.app;
        let Some(health) = &app.health else {
            return Vec::new();
        };
        let target = |state: &Arc<OriginState>| Target {
            state: Arc::clone(state),
            address: state.address(app.ports, app.ports.first),
            app: Arc::clone(app),
            health: health.clone(),
            events: service.events.clone(),
        };
        let routes = serving.routes.iter().flat_map(Routes::in_service);
        let origins = serving.origins.in_service().chain(routes);
        origins.map(target).collect()
    };
    services.iter().flat_map(of_service).collect()
}

/// The checks that go on.
#[derive(Default)]
pub(super) struct Checks {
    checks: Vec<(Target, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Checks {
    /// Checks the origins of these apps from now on, as their settings say, and no others.
    pub(super) async fn follow(&mut self, services: &[Arc<Service>]) {
        let wanted = targets(services);
        let (stay, go): (Vec<_>, Vec<_>) = self
            .checks
            .drain(..)
            .partition(|(target, _)| wanted.iter().any(|other| other.is_same(target)));
        self.checks = stay;
        for (target, task) in &go {
            task.abort();
            let still = |other: &Target| Arc::ptr_eq(&other.state, &target.state);
            if !wanted.iter().any(still) {
                target.state.is_unchecked();
            }
        }
        let new = wanted.into_iter().filter(|target| {
            let mut known = self.checks.iter();
            !known.any(|(other, _)| other.is_same(target))
        });
        for target in new.collect::<Vec<_>>() {
            let task = self.tasks.spawn(check(target.clone()));
            self.checks.push((target, task));
        }
        // None ends by itself: what ends was aborted just now.
        while self.tasks.len() > self.checks.len()
            && let Some(end) = self.tasks.join_next().await
        {
            report_panic(end);
        }
    }

    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Checks an origin for ever.
async fn check(target: Target) {
    let probe = Probe::new(&target.app, &target.health, target.address);
    let known = target.state.is_checked().then(|| !target.state.is_down());
    let mut streak = Streak::new(target.health.rise, target.health.fall, known);
    // The first check comes at once, and the second when it may, so that those of many origins do
    // not go on together.
    let mut pause = target.health.interval.mul_f64(part_of(target.address));
    loop {
        let limit = target.health.timeout;
        let result = match timeout(limit, probe.run()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure::TimedOut(limit)),
        };
        match result {
            // The edge is short of something, and has learnt nothing.
            Err(Failure::Ours(error)) => {
                log::warn!("cannot check origins of {}: {error}", target.app.name);
            }
            Err(failure) => note(&target, &mut streak, Err(failure.to_string())),
            Ok(took) => note(&target, &mut streak, Ok(took)),
        }
        sleep(pause).await;
        pause = target.health.interval;
    }
}

/// A number from 0 to 1.
fn part_of(address: SocketAddr) -> f64 {
    let [part, ..] = RandomState::new().hash_one(address).to_ne_bytes();
    f64::from(part) / f64::from(u8::MAX)
}

/// Tells everybody what a check has found.
fn note(target: &Target, streak: &mut Streak, result: Result<Duration, String>) {
    let change = streak.note(result.is_ok());
    let at = Timestamp::now();
    let Target { state, app, .. } = target;
    if let Ok(took) = result {
        state.reached(Some(took));
    }
    let failure = result.err();
    let found = CheckSnapshot {
        passed: failure.is_none(),
        in_a_row: streak.in_a_row(),
        failure: failure.clone(),
        at,
    };
    state.checked(found, streak.is_up());
    let reason = failure.unwrap_or_default();
    let (address, name) = (target.address, &app.name);
    let event = match change {
        Change::None => return,
        Change::Down => {
            log::warn!("{name}: the origin {address} is down: {reason}");
            OriginKind::OriginDown
        }
        Change::Up => {
            log::info!("{name}: the origin {address} is up again");
            OriginKind::OriginUp
        }
    };
    report(target, app.id, event, reason, at);
}

fn report(target: &Target, app: AppId, event: OriginKind, reason: String, at: Timestamp) {
    target.events.send_origin(OriginRecord {
        event,
        application: app,
        colo_code: target.events.host(),
        origin_ip: target.address.ip(),
        origin_port: target.address.port(),
        reason,
        timestamp: at,
    });
}
