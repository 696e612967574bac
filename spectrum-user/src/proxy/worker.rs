//! A worker: one thread with a runtime of its own, and a part of every app.

use std::{
    collections::HashMap,
    future::Future,
    io, mem,
    rc::{Rc, Weak},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::Socket;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, LocalSet, yield_now},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Drained,
    error::{ApplyError, StartError},
    listener::Listener,
    plan::Bind,
    service::{Service, Share},
    succession::{Left, ListenerNote, SessionNote},
    tasks::{FOR_EVER, Until},
    udp::Edge,
};
use crate::config::AppId;

/// Commands come one at a time, and each is answered before the next.
const COMMANDS: usize = 4;

/// How often finished tasks are joined where no new ones come.
const REAP: Duration = Duration::from_secs(1);

/// The handle of a worker.
pub(super) struct Worker {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Update(Update, oneshot::Sender<io::Result<()>>),
    Listeners(oneshot::Sender<io::Result<Vec<Left<ListenerNote>>>>),
    Release(oneshot::Sender<Vec<Left<SessionNote>>>),
    Adopt(Vec<Left<SessionNote>>, oneshot::Sender<usize>),
    Shutdown(Duration, oneshot::Sender<Drained>),
}

/// A change of what a worker serves.
pub(super) struct Update {
    pub(super) open: Vec<Open>,
    /// Listeners that go over to this app.
    pub(super) hand_over: Vec<(Bind, AppId, Arc<Service>)>,
    pub(super) close: Vec<Bind>,
    /// Listeners that let nobody in, and whose sessions go on.
    pub(super) pause: Vec<Bind>,
    pub(super) remove: Vec<AppId>,
    /// For what is closed or removed.
    pub(super) drain: Duration,
}

/// A bound socket, and whose clients come through it.
pub(super) struct Open {
    pub(super) bind: Bind,
    pub(super) socket: Socket,
    pub(super) app: AppId,
    pub(super) service: Arc<Service>,
    /// Nothing is received before [`Worker::adopt`].
    pub(super) sessions_follow: bool,
}

impl Worker {
    pub(super) fn start(number: usize) -> Result<Self, StartError> {
        let error = |source| StartError::Worker {
            worker: number,
            source,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(error)?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let thread = thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || run(&runtime, number, receiver))
            .map_err(error)?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Hands the change over; the receiver tells when it is done.
    pub(super) fn update(
        &self,
        update: Update,
    ) -> Result<oneshot::Receiver<io::Result<()>>, ApplyError> {
        self.command(|done| Command::Update(update, done))
    }

    /// Its listening sockets, for another process; it goes on with them.
    pub(super) fn listeners(
        &self,
    ) -> Result<oneshot::Receiver<io::Result<Vec<Left<ListenerNote>>>>, ApplyError> {
        self.command(Command::Listeners)
    }

    /// Accepts and receives no more, and hands over its UDP sessions.
    pub(super) fn release(&self) -> Result<oneshot::Receiver<Vec<Left<SessionNote>>>, ApplyError> {
        self.command(Command::Release)
    }

    /// Goes on with sessions of another process, and receives from now on. The answer is how many
    /// of them there is no place for.
    pub(super) fn adopt(
        &self,
        sessions: Vec<Left<SessionNote>>,
    ) -> Result<oneshot::Receiver<usize>, ApplyError> {
        self.command(|done| Command::Adopt(sessions, done))
    }

    fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<oneshot::Receiver<T>, ApplyError> {
        let (done, receiver) = oneshot::channel();
        self.commands
            .try_send(command(done))
            .map_err(|_dead| ApplyError::Worker)?;
        Ok(receiver)
    }

    /// Begins the end at once; the future waits for it.
    pub(super) fn shutdown(self, deadline: Duration) -> impl Future<Output = Drained> {
        let (done, receiver) = oneshot::channel();
        // A dead worker has nothing to drain.
        let _ = self.commands.try_send(Command::Shutdown(deadline, done));
        async move {
            let drained = receiver.await.unwrap_or_default();
            drop(self);
            drained
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The thread ends when no more commands can come.
        let (nobody, _) = mpsc::channel(1);
        self.commands = nobody;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a proxy worker has panicked, please report this");
        }
    }
}

fn run(runtime: &Runtime, number: usize, commands: mpsc::Receiver<Command>) {
    let local = LocalSet::new();
    let serving = Serving {
        number,
        shares: HashMap::new(),
        listeners: HashMap::new(),
        closing: HashMap::new(),
        drains: JoinSet::new(),
        stop: watch::Sender::new(None),
    };
    local.block_on(runtime, serving.run(commands));
}

/// What a worker serves.
struct Serving {
    number: usize,
    shares: HashMap<AppId, Rc<Share>>,
    listeners: HashMap<Bind, Listener>,
    /// UDP sockets that stay open for their sessions only.
    closing: HashMap<Bind, Weak<Edge>>,
    /// The last moments of apps and UDP sockets that were removed.
    drains: JoinSet<Drained>,
    /// When everything has to be over; `None` while the worker runs.
    stop: watch::Sender<Option<Instant>>,
}

impl Serving {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut reap = interval(REAP);
        reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Update(update, done)) => {
                        // Whoever asked may have gone away since.
                        let _ = done.send(self.update(update).await);
                    }
                    Some(Command::Listeners(done)) => {
                        let _ = done.send(self.listeners());
                    }
                    Some(Command::Release(done)) => {
                        let _ = done.send(self.release().await);
                    }
                    Some(Command::Adopt(sessions, done)) => {
                        let _ = done.send(self.adopt(sessions));
                    }
                    Some(Command::Shutdown(deadline, mut done)) => {
                        tokio::select! {
                            drained = self.shutdown(deadline) => drop(done.send(drained)),
                            // Nobody waits any more: what is left is cut.
                            () = done.closed() => {}
                        }
                        return;
                    }
                    None => return,
                },
                _ = reap.tick() => self.reap(),
            }
        }
    }

    fn reap(&mut self) {
        self.shares.values().for_each(|share| share.tasks.reap());
        while self.drains.try_join_next().is_some() {}
    }

    async fn update(&mut self, update: Update) -> io::Result<()> {
        for (bind, app, service) in update.hand_over {
            let share = self.share(app, service);
            if let Some(listener) = self.listeners.get(&bind) {
                listener.hand_over(share);
            }
        }
        let deadline = Instant::now() + update.drain;
        for bind in update.close {
            if let Some(listener) = self.listeners.remove(&bind) {
                self.close(bind, listener, deadline).await;
            }
        }
        for bind in update.pause {
            if let Some(listener) = self.listeners.remove(&bind) {
                self.close(bind, listener, Instant::now() + FOR_EVER).await;
            }
        }
        let mut opened = Ok(());
        for open in update.open {
            if let Err(error) = self.open(open) {
                opened = Err(error);
            }
        }
        for app in update.remove {
            if let Some(share) = self.shares.remove(&app) {
                self.drain(share, deadline);
            }
        }
        opened
    }

    fn listeners(&self) -> io::Result<Vec<Left<ListenerNote>>> {
        let left = |(bind, listener): (&Bind, &Listener)| {
            Ok(Left {
                note: self.note(*bind),
                socket: listener.socket()?,
            })
        };
        self.listeners.iter().map(left).collect()
    }

    async fn release(&mut self) -> Vec<Left<SessionNote>> {
        let mut sessions = Vec::new();
        for (_, listener) in mem::take(&mut self.listeners) {
            if let Some(edge) = listener.close().await {
                sessions.extend(edge.release(self.number).await);
            }
        }
        // Their tasks are no connections that were cut.
        yield_now().await;
        self.reap();
        sessions
    }

    fn adopt(&self, sessions: Vec<Left<SessionNote>>) -> usize {
        let mut homeless = 0;
        for session in sessions {
            let app = session.note.app;
            let listener = self.listeners.get(&session.note.listener.bind);
            let adopted = match (listener, self.shares.contains_key(&app)) {
                (Some(Listener::Udp(edge)), true) => edge.adopt(session).is_ok(),
                _ => false,
            };
            homeless += usize::from(!adopted);
        }
        for listener in self.listeners.values() {
            if let Listener::Udp(edge) = listener {
                edge.receive();
            }
        }
        homeless
    }

    fn note(&self, bind: Bind) -> ListenerNote {
        ListenerNote {
            bind,
            worker: self.number,
        }
    }

    async fn shutdown(mut self, deadline: Duration) -> Drained {
        self.reap();
        let deadline = Instant::now() + deadline;
        self.stop.send_replace(Some(deadline));
        for (bind, listener) in mem::take(&mut self.listeners) {
            self.close(bind, listener, deadline).await;
        }
        for (_, share) in mem::take(&mut self.shares) {
            self.drain(share, deadline);
        }
        let mut drained = Drained::default();
        while let Some(end) = self.drains.join_next().await {
            drained += end.unwrap_or_default();
        }
        drained
    }

    fn open(&mut self, open: Open) -> io::Result<()> {
        let share = self.share(open.app, open.service);
        // A UDP socket that is still draining goes on, rather than share the clients with another.
        let closing = self.closing.remove(&open.bind);
        let listener = match closing.and_then(|edge| edge.upgrade()) {
            Some(edge) if edge.hand_over(Rc::clone(&share)) => Listener::Udp(edge),
            _ => Listener::open(&open.bind, open.socket, share)?,
        };
        if let Listener::Udp(edge) = &listener
            && !open.sessions_follow
        {
            edge.receive();
        }
        self.listeners.insert(open.bind, listener);
        Ok(())
    }

    /// When it returns, no client can come in any more.
    async fn close(&mut self, bind: Bind, listener: Listener, deadline: Instant) {
        if let Some(edge) = listener.close().await {
            self.closing.retain(|_, edge| edge.strong_count() > 0);
            self.closing.insert(bind, Rc::downgrade(&edge));
            let until = self.until(deadline);
            self.drains.spawn_local(async move {
                edge.drain(until).await;
                // Its sessions are counted with their app.
                Drained::default()
            });
        }
    }

    fn drain(&mut self, share: Rc<Share>, deadline: Instant) {
        let until = self.until(deadline);
        self.drains
            .spawn_local(async move { share.tasks.drain(until).await });
    }

    fn until(&self, deadline: Instant) -> Until {
        Until {
            deadline,
            stop: self.stop.subscribe(),
        }
    }

    fn share(&mut self, app: AppId, service: Arc<Service>) -> Rc<Share> {
        let new = || Share::new(service, self.number);
        Rc::clone(self.shares.entry(app).or_insert_with(new))
    }
}
