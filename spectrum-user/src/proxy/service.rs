//! An app while it is served: its settings of the moment, and all that outlives a change of them.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::{
    bandwidth::Bandwidth,
    limits::{Admission, Rates},
    names::LookupSnapshot,
    origins::{OriginSnapshot, Origins},
    proofs::Proofs,
    routes::{self, RouteSnapshot, Routes},
    shortcut::Shortcut,
    stats::{Stats, Totals},
    tasks::Tasks,
    udp::Newcomers,
};
use crate::{
    config::{self, App, AppId, Member},
    event::Sink,
    tls::{Endpoint, EndpointStatus},
};

/// One app, shared by all workers.
pub(super) struct Service {
    pub(super) id: AppId,
    serving: ArcSwap<Serving>,
    /// What is known of the name of its origins; for the operator alone.
    lookup: Mutex<Option<LookupSnapshot>>,
    pub(super) admission: Arc<Admission>,
    pub(super) bandwidth: Arc<Bandwidth>,
    /// One for each worker.
    stats: Box<[Stats]>,
    pub(super) events: Sink,
    pub(super) proofs: Proofs,
    pub(super) shortcut: Option<Arc<dyn Shortcut>>,
}

/// The settings that hold for new connections. A connection keeps those that it began with.
pub(super) struct Serving {
    pub(super) app: Arc<App>,
    pub(super) origins: Origins,
    pub(super) routes: Option<Routes>,
    /// `None`: what comes is passed on as it is.
    pub(super) tls: Option<Arc<Endpoint>>,
    /// How fast clients may come.
    pub(super) rates: Arc<Rates>,
}

/// What one worker has of an app.
pub(super) struct Share {
    pub(super) service: Arc<Service>,
    worker: usize,
    /// Its connections and sessions.
    pub(super) tasks: Tasks,
    /// Its UDP sessions that may be evicted.
    pub(super) newcomers: Newcomers,
}

/// What the operator sees of an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppSnapshot {
    /// 32 hex digits.
    pub id: String,
    pub name: String,
    /// As in the document: `tcp/22`.
    pub protocol: String,
    /// TCP connections or UDP sessions at this moment.
    pub active: u32,
    /// How many of these wait for a place at an origin.
    #[serde(default)]
    pub waiting: usize,
    #[serde(flatten)]
    pub totals: Totals,
    pub origins: Vec<OriginSnapshot>,
    /// Clients that name these hosts get others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSnapshot>,
    /// Absent where no TLS is spoken.
    pub tls: Option<EndpointStatus>,
    /// Absent where no name leads to the origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupSnapshot>,
}

impl Service {
    pub(super) fn new(
        app: &Arc<App>,
        tls: Option<Arc<Endpoint>>,
        workers: usize,
        events: Sink,
        proofs: Proofs,
        shortcut: Option<Arc<dyn Shortcut>>,
    ) -> Arc<Self> {
        let serving = Serving {
            origins: Origins::new(&app.origins, None),
            routes: routes::of_app(app, None),
            rates: Arc::new(Rates::new(app.limits.new_connections)),
            app: Arc::clone(app),
            tls,
        };
        Arc::new(Self {
            id: app.id,
            serving: ArcSwap::from_pointee(serving),
            lookup: Mutex::new(None),
            admission: Admission::new(),
            bandwidth: Arc::new(Bandwidth::new(app.limits.bandwidth)),
            stats: (0..workers).map(|_| Stats::default()).collect(),
            events,
            proofs,
            shortcut,
        })
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    pub(super) fn update(&self, app: &Arc<App>, tls: Option<Arc<Endpoint>>) {
        self.bandwidth.set(app.limits.bandwidth);
        self.serving.rcu(|before| Serving {
            origins: Origins::new(&app.origins, Some(&before.origins)),
            routes: routes::of_app(app, before.routes.as_ref()),
            app: Arc::clone(app),
            tls: tls.clone(),
            rates: if before.rates.settings() == app.limits.new_connections {
                Arc::clone(&before.rates)
            } else {
                Arc::new(Rates::new(app.limits.new_connections))
            },
        });
    }

    /// The name of its origins leads to these now; unless it is no longer the name that was asked
    /// for.
    pub(super) fn resolved(&self, lookup: &config::Lookup, members: &[Member]) {
        self.serving.rcu(|before| {
            if before.app.origins.lookup.as_ref() != Some(lookup) {
                return Arc::clone(before);
            }
            Arc::new(Serving {
                origins: before.origins.resolved(members),
                routes: routes::of_app(&before.app, before.routes.as_ref()),
                app: Arc::clone(&before.app),
                tls: before.tls.clone(),
                rates: Arc::clone(&before.rates),
            })
        });
    }

    /// What is known of the name of its origins; `None` where there is no name.
    pub(super) fn lookup(&self) -> MutexGuard<'_, Option<LookupSnapshot>> {
        self.lookup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> AppSnapshot {
        let serving = self.serving.load();
        let app = &serving.app;
        AppSnapshot {
            id: app.id.to_string(),
            name: app.name.clone(),
            protocol: app.protocol(),
            active: self.admission.active(),
            waiting: {
                let routes = serving.routes.as_ref();
                serving.origins.waiting() + routes.map_or(0, Routes::waiting)
            },
            totals: Totals::of(&self.stats),
            origins: serving.origins.snapshot(app.ports),
            routes: {
                let routes = serving.routes.as_ref();
                routes.map_or_else(Vec::new, |routes| routes.snapshot(app.ports))
            },
            tls: serving.tls.as_ref().map(|endpoint| endpoint.status()),
            lookup: self.lookup().clone(),
        }
    }
}

impl Share {
    pub(super) fn new(service: Arc<Service>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            service,
            worker,
            tasks: Tasks::default(),
            newcomers: Newcomers::default(),
        })
    }

    pub(super) fn stats(&self) -> &Stats {
        #[expect(
            clippy::indexing_slicing,
            reason = "a service has stats for every worker"
        )]
        &self.service.stats[self.worker]
    }
}
