//! The daemon's life: parse, bind, attach, serve, signal, drain.
//!
//! The composition root: the one place that knows configuration, data plane and proxy at once, and
//! hands each what it needs of the others.

mod activation;
mod addresses;
mod answer;
mod bypass;
mod capabilities;
mod captures;
mod drain;
mod handshake;
mod mitigator;
mod others;
mod recent;
mod reload;
mod shield;
mod signals;
mod sources;
mod succession;
mod sysctl;
mod watch;
mod work;

use std::{
    collections::HashSet, mem, net::IpAddr, os::unix::net::UnixStream, path::PathBuf, sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use socket2::Socket;
use tokio::{
    sync::{mpsc, watch as signal},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use self::{
    bypass::Bypass,
    captures::Captures,
    handshake::Handshake,
    mitigator::Mitigator,
    others::Others,
    recent::{RecentDrops, Sampled},
    shield::Shield,
    signals::Signals,
    succession::{Predecessor, Remaining, Upgrade},
    watch::Watch,
    work::{Cause, Work},
};
use crate::{
    config::{self, AppId, Config, Mode},
    control::{self, Reply, Request},
    dataplane::{events::Reader, forwards, room},
    event, mitigation,
    proxy::{self, Proxy},
    tls::{self, Endpoints},
};

/// What `spectrum run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of `spectrum.toml`.
    pub config: PathBuf,
    /// Remove the filter at the end instead of leaving it to the next run.
    pub detach_on_exit: bool,
    /// Take the place of the daemon that runs, if one does.
    pub upgrade: bool,
    /// Where the program was started from.
    pub program: PathBuf,
}

/// How often the daemon looks for addresses that came or went.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often expired entries are taken off the lists.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);
/// How often the filter is told who is connected, so that it knows them for as long as they are:
/// more often than a proof grows old.
const RENEWAL_INTERVAL: Duration = Duration::from_mins(2);
/// How long the event log may take to write what is left at the end.
const EVENT_LOG_DEADLINE: Duration = Duration::from_secs(2);
/// Events taken from a ring buffer at once.
const EVENT_BATCH: usize = 64;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is invalid, a capability is missing, an address is taken, or an interface
/// refuses the filter. Nothing is left behind then that was not there before.
pub fn run(options: &Options) -> Result<()> {
    // Before any thread starts: the environment is everybody's.
    let sockets = activation::take()?;
    let loaded = load(options, &Endpoints::default())?;
    // Before any thread starts: capabilities belong to threads.
    capabilities::restrict()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        let daemon = Daemon::start(options.clone(), loaded, sockets).await?;
        daemon.serve(signals).await
    })
}

/// What the documents say, and what the files hold that they name.
#[derive(Clone)]
struct Loaded {
    config: Arc<Config>,
    tls: Endpoints,
}

/// `known`: what is in use of TLS.
fn load(options: &Options, known: &Endpoints) -> Result<Loaded> {
    let mut config = config::load(&options.config)?;
    room::ensure(&config, &options.config)?;
    addresses::ensure_sources(&config.apps)?;
    let tls = Endpoints::read(config.apps.iter().map(|app| &**app), known)?;
    if config.host.closed_ports.is_none() {
        config.host.closed_ports = Some(if addresses::host_forwards() {
            log::info!(
                "this host forwards packets: replies to masqueraded connections have no socket \
                 here, so packets to closed ports are counted, not dropped. Set closed_ports = \
                 \"enforce\" in [protection] if nothing is masqueraded."
            );
            Mode::Monitor
        } else {
            Mode::Enforce
        });
    }
    Ok(Loaded {
        config: Arc::new(config),
        tls,
    })
}

struct Daemon {
    options: Options,
    config: Arc<Config>,
    tls: Endpoints,
    proxy: Proxy,
    /// Apps that let no client in.
    drained: HashSet<AppId>,
    shield: Shield,
    mitigator: Mitigator,
    captures: Captures,
    handshake: Handshake,
    bypass: Bypass,
    events: event::Sink,
    event_log: event::Writer,
    recent: RecentDrops,
    others: Others,
    started: Timestamp,
    configured: Timestamp,
    /// Tasks that only bring things here; ended with the daemon.
    tasks: JoinSet<()>,
    /// At the files of certificates.
    looks: JoinSet<()>,
    requests: mpsc::Receiver<(Request, Reply)>,
    drops: mpsc::Receiver<Sampled>,
    drops_in: mpsc::Sender<Sampled>,
    watch: Watch,
    work: Work,
    /// Nothing is to be read from the filters meanwhile.
    paused: signal::Sender<bool>,
    /// The daemon before this one, if it may still have connections.
    predecessor: Option<Remaining>,
    upgrade: Option<Upgrade>,
    /// Who has taken over; told, by its end, that this daemon is gone.
    heir: Option<UnixStream>,
}

impl Daemon {
    /// Listens first and filters last, so that whoever is let in finds somebody there.
    async fn start(options: Options, loaded: Loaded, sockets: Vec<Socket>) -> Result<Self> {
        let Loaded { config, tls } = loaded;
        let control_socket = &config.host.control_socket;
        let mut predecessor = match options.upgrade {
            true => Predecessor::meet(control_socket)?,
            false => None,
        };
        let mut socket = match &predecessor {
            Some(_) => control::Socket::bind_beside(control_socket)?,
            None => control::Socket::bind(control_socket)?,
        };
        let (events, event_log) =
            event::Writer::start(&config.host.events).context("cannot open the event log")?;
        if predecessor.is_none() {
            // Before any session can take a port that an earlier daemon's had.
            forwards::halt(&config.host.pin_dir);
        }
        let mut bypass = Bypass::new(control_socket);
        let proxy = Proxy::start(
            proxy::Settings {
                workers: predecessor
                    .as_ref()
                    .map_or(config.host.workers, |it| it.workers),
                drain: config.host.drain,
                dns_servers: config.host.dns_servers.clone(),
                shortcut: Some(bypass.shortcut()),
            },
            events.clone(),
        )?;
        match &mut predecessor {
            Some(predecessor) => proxy.inherit(mem::take(&mut predecessor.listeners)).await,
            None => activation::hand_over(sockets, &proxy).await?,
        }
        proxy.apply(&config.apps, &tls).await?;
        let watch = Watch::new(&options.config, &config.host.apps_dir)?;
        let mut others = Others::new();
        let draft = others.known().draft(&config);
        others.adopt(draft, &config);
        events.learn(others.databases.places());
        let mut shield = Shield::raise(&config, others.say(&config))?;
        match &predecessor {
            // Its program is where ours would be, until it gives way.
            Some(_) => {}
            None => bypass.begin(&config, &mut shield)?,
        }
        bypass.follow(&shield);
        let handshake = Handshake::new(control_socket);
        let mitigator = Mitigator::start(&config, &mut shield, events.clone())?;
        let predecessor = match predecessor {
            Some(predecessor) => Some(succession::succeed(predecessor, &proxy).await?),
            None => None,
        };
        socket.take_place(control_socket)?;

        let (requests_in, requests) = mpsc::channel(16);
        let (drops_in, drops) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(socket, requests_in));
        let now = Timestamp::now();
        let mut daemon = Self {
            options,
            config,
            tls,
            proxy,
            drained: HashSet::new(),
            shield,
            mitigator,
            captures: Captures::default(),
            handshake,
            bypass,
            events,
            event_log,
            recent: RecentDrops::default(),
            others,
            started: now,
            configured: now,
            tasks,
            looks: JoinSet::new(),
            requests,
            drops,
            drops_in,
            watch,
            work: Work::default(),
            paused: signal::Sender::new(false),
            predecessor,
            upgrade: None,
            heir: None,
        };
        daemon.follow_events()?;
        daemon.renew_sources();
        // Last, because it changes settings of the host, which a start that fails must not.
        daemon.keep_handshake();
        Ok(daemon)
    }

    async fn serve(mut self, mut signals: Signals) -> Result<()> {
        self.announce();
        let mut windows = ticks(mitigation::WINDOW);
        let mut addresses = ticks(ADDRESS_INTERVAL);
        let mut housekeeping = ticks(HOUSEKEEPING_INTERVAL);
        let mut marking = ticks(handshake::MARK_INTERVAL);
        let mut keeping = ticks(bypass::KEEP_INTERVAL);
        let mut renewal = ticks(RENEWAL_INTERVAL);
        let mut certificates = ticks(tls::LOOK_INTERVAL);
        let proofs = self.proxy.proofs();
        loop {
            tokio::select! {
                stop = signals.stop_or_reload() => {
                    if stop {
                        break;
                    }
                    self.event_log.reopen();
                    self.want(Cause::Documents("SIGHUP"));
                }
                () = self.watch.changed() => self.want(Cause::Documents("a document changed")),
                done = self.work.done() => self.go_on(done).await,
                Some((request, reply)) = self.requests.recv() => {
                    if self.answer(request, reply).await.is_break() {
                        break;
                    }
                }
                () = Self::upgrade_failed(&mut self.upgrade) => {}
                update = self.others.feeds.updated() => self.take_list(update),
                update = self.others.databases.updated() => self.take_places(update),
                Some(drops) = self.drops.recv() => self.recent.add(drops),
                sources = proofs.take() => self.learn(sources),
                _ = renewal.tick() => self.renew_sources(),
                _ = certificates.tick() => self.look_at_certificates(),
                _ = windows.tick() => self.look_at_samples(),
                _ = addresses.tick() => self.follow_addresses(),
                _ = keeping.tick() => self.bypass.keep(&self.config, &mut self.shield),
                _ = marking.tick() => self.keep_handshake(),
                _ = housekeeping.tick() => {
                    note(self.shield.tidy(), "cannot tidy the lists");
                    self.retry();
                }
            }
        }
        self.stop(signals).await;
        Ok(())
    }

    /// Stops accepting, lets connections finish until the deadline, and leaves the filter to the
    /// next run.
    async fn stop(mut self, mut signals: Signals) {
        let deadline = self.config.host.drain;
        log::info!("stopping: connections have {deadline:?} to finish (again to cut them)");
        if self.heir.is_none()
            && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping])
        {
            log::debug!("sd_notify: {error}");
        }
        self.captures.end("the daemon stops");
        if self.heir.is_some() {
            // What they would answer, read or carry is another daemon's now.
            self.bypass.leave();
            self.tasks.shutdown().await;
            self.requests.close();
            while self.requests.try_recv().is_ok() {}
        }
        tokio::select! {
            drained = self.proxy.shutdown(deadline) => log::info!(
                "{} connections finished, {} were cut",
                drained.finished,
                drained.cut
            ),
            () = signals.stop() => log::warn!("connections cut"),
        }
        self.captures.finish().await;
        self.tasks.shutdown().await;
        self.looks.shutdown().await;
        if !self.event_log.close(EVENT_LOG_DEADLINE) {
            log::warn!("the event log did not take the last events in time");
        }
        if self.heir.is_some() {
            log::info!("the filter and the settings of the host's TCP are another daemon's now");
            return;
        }
        let ended = self.bypass.end(&mut self.shield);
        note(ended, "cannot end what is carried past the proxy");
        let ended = self.handshake.end(&mut self.shield);
        note(ended, "cannot restore the settings of the host's TCP");
        if self.options.detach_on_exit {
            self.shield.lower();
        } else {
            log::info!(
                "the filter stays on {}; `spectrum detach` removes it",
                self.config.host.interfaces.join(", ")
            );
        }
    }

    /// Takes over certificates that have changed, beside the main loop.
    fn look_at_certificates(&mut self) {
        // Each look is over before the next, or there is none.
        while self.looks.try_join_next().is_some() {}
        if !self.tls.is_empty() && self.looks.is_empty() {
            let tls = self.tls.clone();
            self.looks.spawn_blocking(move || tls.look());
        }
    }

    fn warn_of_certificates(&self) {
        for warning in self.tls.warnings() {
            log::warn!("{warning}");
        }
    }

    fn announce(&self) {
        self.warn_of_certificates();
        log::info!(
            "serving {} apps on {}",
            self.config.apps.len(),
            self.config.host.interfaces.join(", ")
        );
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            log::debug!("sd_notify: {error}");
        }
    }

    /// Starts reading the events of filters that are new.
    fn follow_events(&mut self) -> Result<()> {
        for (interface, reader) in self.shield.take_readers()? {
            self.tasks.spawn(read_events(
                interface,
                reader,
                self.drops_in.clone(),
                self.paused.subscribe(),
            ));
        }
        Ok(())
    }

    /// Hands the samples to who captures, and to the engine.
    fn look_at_samples(&mut self) {
        match self.shield.samples() {
            Ok(samples) => {
                self.captures.offer(&samples);
                self.mitigator.tick(&samples, &mut self.shield);
            }
            Err(error) => note(Err(error), "cannot look at the samples"),
        }
    }

    /// Tells the filter what became known of sources.
    fn learn(&self, sources: HashSet<(AppId, IpAddr)>) {
        let learned = sources::learn(&self.config, &self.proxy, &self.shield, sources);
        note(learned, "cannot note who is real");
    }

    fn keep_handshake(&mut self) {
        let (config, drained) = (&self.config, &self.drained);
        self.handshake.keep(config, drained, &mut self.shield);
    }

    fn renew_sources(&mut self) {
        let mut connected = self.proxy.connected();
        let before = self.predecessor.as_mut();
        connected.extend_from_slice(before.map_or(&[], Remaining::connected));
        let renewed = sources::renew(&self.config, connected, &self.shield);
        note(renewed, "cannot note who is connected");
    }
}

/// Brings requests from the control socket to the main loop.
async fn listen(socket: control::Socket, requests: mpsc::Sender<(Request, Reply)>) {
    loop {
        let asked = socket.accept().await;
        if requests.send(asked).await.is_err() {
            return;
        }
    }
}

/// Brings events of a filter to the main loop.
async fn read_events(
    interface: String,
    mut reader: Reader,
    drops_in: mpsc::Sender<Sampled>,
    mut paused: signal::Receiver<bool>,
) {
    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = reader.read(EVENT_BATCH) => read,
            _ = paused.changed() => continue,
        };
        match read {
            Ok(drops) if drops.is_empty() => {}
            Ok(drops) => {
                let interface = interface.clone();
                if drops_in.send(Sampled { interface, drops }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                log::error!("{interface}: cannot read events any more: {error}");
                return;
            }
        }
    }
}

/// What is due at the start has been done by then.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Logs what failed without harm to what runs.
fn note(result: Result<()>, what: &str) {
    if let Err(error) = result {
        log::error!("{what}: {error:#}");
    }
}
