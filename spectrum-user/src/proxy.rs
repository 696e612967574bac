//! The proxy: carries what the data plane let through to the hidden origins.
//!
//! The life of a connection: a `worker` accepts it on a `listener`, it is admitted (`limits`), one
//! of the `origins` is reached, the header ([`proxy_protocol`]) is sent, bytes are relayed (`tcp`),
//! and its `account` is closed. UDP sessions (`udp`) go the same way.
//!
//! - The proxy never reads a configuration file, and knows nothing of BPF.
//! - A worker never waits for another: each has a thread, a runtime and listeners of its own.
//! - A client never sees anything that contains an origin's address.

mod account;
mod bandwidth;
mod clock;
mod error;
mod health;
pub mod hostname;
mod keeper;
mod limits;
mod line;
mod listener;
mod names;
mod origins;
mod plan;
mod proofs;
pub mod proxy_protocol;
mod routes;
mod service;
mod shortcut;
mod socket;
mod stats;
mod succession;
mod tasks;
mod tcp;
mod tls;
mod udp;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    fs, iter, mem,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use tokio::sync::Mutex as AsyncMutex;

pub use error::{ApplyError, StartError};
pub use names::LookupSnapshot;
pub use origins::{CheckSnapshot, OriginCondition, OriginSnapshot};
pub use proofs::Proofs;
pub use routes::RouteSnapshot;
pub use service::AppSnapshot;
pub use shortcut::{Carried, Passage, Route, Shortcut};
pub use socket::{Handshake, handshake_of};
pub use stats::{Refusals, Totals};
pub use succession::{Left, ListenerNote, SessionNote};
pub use tasks::Drained;
use tasks::FOR_EVER;

use crate::{
    config::{App, AppId, Transport},
    event,
    tls::Endpoints,
};
use keeper::Keeper;
use plan::{Bind, Plan, Served};
use service::Service;
use succession::Inheritance;
use worker::{Open, Update, Worker};

/// File descriptors that listeners leave to connections, logs and maps, at least.
const SPARE_DESCRIPTORS: u64 = 256;

/// How the proxy runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads; at least 1.
    pub workers: usize,
    /// How long connections of an app go on after it was removed.
    pub drain: Duration,
    /// Who is asked for the names of origins; empty: those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// Who may move datagrams past the proxy; `None`: nobody.
    pub shortcut: Option<Arc<dyn Shortcut>>,
}

/// A running proxy. Dropping it cuts everything; [`shutdown`](Self::shutdown) is the kind way.
pub struct Proxy {
    settings: Settings,
    events: event::Sink,
    proofs: Proofs,
    workers: Vec<Worker>,
    keeper: Keeper,
    state: AsyncMutex<State>,
    /// In the order of the apps that were applied last.
    services: Mutex<Vec<Arc<Service>>>,
}

#[derive(Default)]
struct State {
    served: Served,
    services: HashMap<AppId, Arc<Service>>,
    /// UDP sockets whose app is gone may stay open until then.
    draining: Vec<(Bind, Instant)>,
    /// Apps that let nobody in.
    paused: HashSet<AppId>,
    /// For the first apps.
    inheritance: Inheritance,
}

/// What [`Proxy::apply`] did, by names of apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub updated: Vec<String>,
    pub unchanged: Vec<String>,
}

impl Proxy {
    /// Starts the workers, which serve nothing yet, and raises the limit of open files to what the
    /// process may have.
    ///
    /// # Errors
    /// The host gives no threads or no file descriptors.
    pub fn start(settings: Settings, events: event::Sink) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let workers = (0..settings.workers.max(1)).map(Worker::start);
        Ok(Self {
            events,
            proofs: Proofs::default(),
            workers: workers.collect::<Result<_, _>>()?,
            keeper: Keeper::start(settings.dns_servers.clone()).map_err(StartError::Keeper)?,
            settings,
            state: AsyncMutex::default(),
            services: Mutex::default(),
        })
    }

    /// Serves `apps` instead of what was served before; `tls` has what those need that speak it.
    ///
    /// Connections of apps that are still there go on, with the settings they began with; new ones
    /// get the new settings. An app that is gone stops listening at once, and its connections are
    /// cut when they have not ended after the drain time.
    ///
    /// # Errors
    /// All new sockets are bound before anything changes: on an error, everything is as it was.
    pub async fn apply(&self, apps: &[Arc<App>], tls: &Endpoints) -> Result<Changes, ApplyError> {
        self.apply_to(&mut *self.state.lock().await, apps, tls)
            .await
    }

    /// Lets no client in to these apps, and in to all others again. The connections that they have
    /// go on, as long as they like.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), of apps that listen again.
    pub async fn pause(&self, paused: HashSet<AppId>) -> Result<(), ApplyError> {
        let mut state = self.state.lock().await;
        let before = mem::replace(&mut state.paused, paused);
        let apps = state.served.apps.clone();
        // No app changes, so that none needs it.
        let tls = Endpoints::default();
        if let Err(error) = self.apply_to(&mut state, &apps, &tls).await {
            state.paused = before;
            return Err(error);
        }
        Ok(())
    }

    async fn apply_to(
        &self,
        state: &mut State,
        apps: &[Arc<App>],
        tls: &Endpoints,
    ) -> Result<Changes, ApplyError> {
        let now = Instant::now();
        state.draining.retain(|(_, until)| *until > now);
        let mut inheritance = mem::take(&mut state.inheritance);
        let plan = Plan::new(&state.served, apps, &state.paused, has_ipv6())?;
        let opened = self.bind_all(&plan, state, &mut inheritance)?;

        // From here on, nothing fails but a worker that is dead.
        for app in &plan.update {
            if let Some(service) = state.services.get(&app.id) {
                service.update(app, tls.get(app.id));
            }
        }
        let mut services = state.services.clone();
        for app in &plan.add {
            let service = Service::new(
                app,
                tls.get(app.id),
                self.workers.len(),
                self.events.clone(),
                self.proofs.clone(),
                self.settings.shortcut.clone(),
            );
            services.insert(app.id, service);
        }
        services.retain(|id, _| !plan.remove.contains(id));
        for bind in inheritance.binds().filter(|_| !inheritance.sessions_follow) {
            log::warn!("the service manager hands over a socket for {bind}, where no app listens");
        }
        let updates = self.updates(&plan, opened, &services, inheritance.sessions_follow);
        let done: Vec<_> = iter::zip(&self.workers, updates)
            .map(|(worker, update)| worker.update(update))
            .collect();

        let closed = plan.close.iter().map(|bind| (*bind, self.settings.drain));
        let paused = plan.pause.iter().map(|bind| (*bind, FOR_EVER));
        let draining: Vec<_> = closed
            .chain(paused)
            .filter(|(bind, _)| bind.transport == Transport::Udp)
            .map(|(bind, span)| (bind, now + span))
            .collect();
        let changes = plan.changes.clone();
        let listeners = listeners_after(&state.served, &plan);
        state.draining.extend(draining);
        state.served = Served {
            apps: apps.to_vec(),
            listeners,
        };
        let in_order = apps.iter().filter_map(|app| services.get(&app.id).cloned());
        let in_order: Vec<_> = in_order.collect();
        self.keeper.follow(in_order.clone());
        *self.published() = in_order;
        state.services = services;
        for done in done {
            done?.await.map_err(|_gone| ApplyError::Worker)??;
        }
        Ok(changes)
    }

    /// The number of threads.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The apps as they are served at this moment.
    pub fn snapshot(&self) -> Vec<AppSnapshot> {
        let services = self.published().clone();
        services.iter().map(|service| service.snapshot()).collect()
    }

    /// The sources that prove to be real from now on. Those of a TCP app are named when they
    /// connect, and again when they disconnect.
    pub fn proofs(&self) -> Proofs {
        self.proofs.clone()
    }

    /// The sources that hold TCP connections at this moment: their proof goes on.
    pub fn connected(&self) -> Vec<(AppId, IpAddr)> {
        let services = self.published().clone();
        let of_service = |service: &Arc<Service>| {
            let app = &service.serving().app;
            let sources = match app.transport {
                Transport::Tcp => service.admission.sources(),
                Transport::Udp => Vec::new(),
            };
            let id = app.id;
            sources.into_iter().map(move |source| (id, source))
        };
        services.iter().flat_map(of_service).collect()
    }

    /// Whether a source (IPv6: a /64) holds a TCP connection with an app at this moment.
    pub fn is_connected(&self, app: AppId, source: IpAddr) -> bool {
        let services = self.published();
        let service = services.iter().find(|service| service.id == app);
        service.is_some_and(|service| {
            let is_tcp = service.serving().app.transport == Transport::Tcp;
            is_tcp && service.admission.holds(source)
        })
    }

    /// Stops accepting at once, lets connections go on until `deadline` from now, and cuts the
    /// rest.
    pub async fn shutdown(mut self, deadline: Duration) -> Drained {
        let workers = mem::take(&mut self.workers);
        let ends: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.shutdown(deadline))
            .collect();
        let mut drained = Drained::default();
        for end in ends {
            drained += end.await;
        }
        drained
    }

    /// One socket for each worker and each new address.
    fn bind_all(
        &self,
        plan: &Plan<'_>,
        state: &State,
        inheritance: &mut Inheritance,
    ) -> Result<Vec<Vec<Socket>>, ApplyError> {
        self.check_descriptors(plan)?;
        // Ports where sockets of our own are open, perhaps on another address.
        let served = state.served.listeners.keys();
        let draining = state.draining.iter().map(|(bind, _)| bind);
        let mut ours: HashSet<_> = served
            .chain(draining)
            .chain(inheritance.binds())
            .map(|bind| (bind.transport, bind.address.port()))
            .collect();
        let mut sockets = Vec::with_capacity(plan.open.len());
        for (bind, app) in &plan.open {
            if let Some(group) = inheritance.take(bind, self.workers.len()) {
                sockets.push(group);
                continue;
            }
            let alone = ours.insert((bind.transport, bind.address.port()));
            let group: Result<Vec<_>, _> = (0..self.workers.len())
                .map(|number| socket::bind(bind, alone && number == 0))
                .collect();
            sockets.push(group.map_err(|error| ApplyError::bind(app, bind, error))?);
        }
        for ((bind, app), group) in iter::zip(&plan.open, &sockets) {
            if bind.transport == Transport::Tcp {
                let listening = group.iter().try_for_each(socket::listen);
                listening.map_err(|error| ApplyError::bind(app, bind, error))?;
            }
        }
        Ok(sockets)
    }

    /// # Errors
    /// The new listeners would need more file descriptors than the process may have.
    fn check_descriptors(&self, plan: &Plan<'_>) -> Result<(), ApplyError> {
        let needed = (plan.open.len() * self.workers.len()) as u64;
        let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return Ok(());
        };
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
        let free = limit.saturating_sub(open + SPARE_DESCRIPTORS);
        if needed <= free {
            return Ok(());
        }
        let mut per_app: HashMap<&str, u64> = HashMap::new();
        for (_, app) in &plan.open {
            *per_app.entry(&app.name).or_default() += self.workers.len() as u64;
        }
        let (app, most) = per_app
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .unwrap_or_default();
        Err(ApplyError::TooManySockets {
            app: app.to_owned(),
            most,
            needed,
            free,
            limit,
        })
    }

    /// The same change for each worker, with its own sockets.
    fn updates(
        &self,
        plan: &Plan<'_>,
        opened: Vec<Vec<Socket>>,
        services: &HashMap<AppId, Arc<Service>>,
        sessions_follow: bool,
    ) -> Vec<Update> {
        let update = |_| Update {
            open: Vec::new(),
            hand_over: hand_over(plan, services),
            close: plan.close.clone(),
            pause: plan.pause.clone(),
            remove: plan.remove.clone(),
            drain: self.settings.drain,
        };
        let mut updates: Vec<_> = (0..self.workers.len()).map(update).collect();
        for ((bind, app), group) in iter::zip(&plan.open, opened) {
            let Some(service) = services.get(&app.id) else {
                continue;
            };
            for (update, socket) in iter::zip(&mut updates, group) {
                update.open.push(Open {
                    bind: *bind,
                    socket,
                    app: app.id,
                    service: Arc::clone(service),
                    sessions_follow,
                });
            }
        }
        updates
    }

    fn published(&self) -> MutexGuard<'_, Vec<Arc<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hand_over(
    plan: &Plan<'_>,
    services: &HashMap<AppId, Arc<Service>>,
) -> Vec<(Bind, AppId, Arc<Service>)> {
    let new_owner = |(bind, id): &(Bind, AppId)| {
        let service = services.get(id)?;
        Some((*bind, *id, Arc::clone(service)))
    };
    plan.hand_over.iter().filter_map(new_owner).collect()
}

fn listeners_after(served: &Served, plan: &Plan<'_>) -> HashMap<Bind, AppId> {
    let mut listeners = served.listeners.clone();
    for bind in plan.close.iter().chain(&plan.pause) {
        listeners.remove(bind);
    }
    listeners.extend(plan.hand_over.iter().copied());
    listeners.extend(plan.open.iter().map(|(bind, app)| (*bind, app.id)));
    listeners
}

fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}

/// Where the listeners of a TCP app are, of which there is one for each worker.
pub fn tcp_listeners(app: &App) -> impl Iterator<Item = SocketAddr> {
    let binds = plan::binds(app, has_ipv6());
    binds
        .filter(|bind| bind.transport == Transport::Tcp)
        .map(|bind| bind.address)
}

/// Whether this host can bind IPv6 addresses at all; many have it disabled.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}
