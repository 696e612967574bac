//! An app while it is served: its settings of the moment, and all that outlives a change of them.

use std::{rc::Rc, sync::Arc};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::{
    limits::Admission,
    origins::{OriginSnapshot, Origins},
    proofs::Proofs,
    routes::{self, RouteSnapshot, Routes},
    stats::{Stats, Totals},
    tasks::Tasks,
    udp::Newcomers,
};
use crate::{
    config::{App, AppId},
    event::Sink,
    tls::{Endpoint, EndpointStatus},
};

/// One app, shared by all workers.
pub(super) struct Service {
    pub(super) id: AppId,
    serving: ArcSwap<Serving>,
    pub(super) admission: Arc<Admission>,
    /// One for each worker.
    stats: Box<[Stats]>,
    pub(super) events: Sink,
    pub(super) proofs: Proofs,
}

/// The settings that hold for new connections. A connection keeps those that it began with.
pub(super) struct Serving {
    pub(super) app: Arc<App>,
    pub(super) origins: Origins,
    pub(super) routes: Option<Routes>,
    /// `None`: what comes is passed on as it is.
    pub(super) tls: Option<Arc<Endpoint>>,
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
    #[serde(flatten)]
    pub totals: Totals,
    pub origins: Vec<OriginSnapshot>,
    /// Clients that name these hosts get others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSnapshot>,
    /// Absent where no TLS is spoken.
    pub tls: Option<EndpointStatus>,
}

impl Service {
    pub(super) fn new(
        app: &Arc<App>,
        tls: Option<Arc<Endpoint>>,
        workers: usize,
        events: Sink,
        proofs: Proofs,
    ) -> Arc<Self> {
        let serving = Serving {
            origins: Origins::new(&app.origins, None),
            routes: routes::of_app(app, None),
            app: Arc::clone(app),
            tls,
        };
        Arc::new(Self {
            id: app.id,
            serving: ArcSwap::from_pointee(serving),
            admission: Admission::new(),
            stats: (0..workers).map(|_| Stats::default()).collect(),
            events,
            proofs,
        })
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    pub(super) fn update(&self, app: &Arc<App>, tls: Option<Arc<Endpoint>>) {
        let known = self.serving.load();
        let serving = Serving {
            origins: Origins::new(&app.origins, Some(&known.origins)),
            routes: routes::of_app(app, known.routes.as_ref()),
            app: Arc::clone(app),
            tls,
        };
        self.serving.store(Arc::new(serving));
    }

    pub(super) fn snapshot(&self) -> AppSnapshot {
        let serving = self.serving.load();
        let app = &serving.app;
        AppSnapshot {
            id: app.id.to_string(),
            name: app.name.clone(),
            protocol: app.protocol(),
            active: self.admission.active(),
            totals: Totals::of(&self.stats),
            origins: serving.origins.snapshot(app.ports),
            routes: {
                let routes = serving.routes.as_ref();
                routes.map_or_else(Vec::new, |routes| routes.snapshot(app.ports))
            },
            tls: serving.tls.as_ref().map(|endpoint| endpoint.status()),
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
