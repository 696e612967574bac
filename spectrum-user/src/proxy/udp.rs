//! UDP: an edge socket of one worker, and the sessions behind it.
//!
//! The kernel spreads clients over the workers by their addresses and ports, so that all datagrams
//! of a session come to one worker.

mod allowance;
mod carriage;
mod datagrams;
mod exchange;
mod newcomers;
mod session;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Duration,
};

use quinn_udp::{Transmit, UdpSocketState};
use socket2::Socket;
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::Notify,
    task::{JoinHandle, coop::consume_budget, spawn_local},
    time::sleep,
};

use super::{
    account::{Account, refuse},
    clock::Moment,
    limits::Limit,
    plan::Bind,
    service::Share,
    socket,
    succession::{Left, SessionNote},
    tasks::{Until, stop},
};
use crate::{config::Transport, event::Status};
use datagrams::Datagrams;
pub(super) use exchange::Exchange;
pub(super) use newcomers::Newcomers;
use session::Session;

/// After an error that is not about one datagram.
const BACK_OFF: Duration = Duration::from_millis(10);

/// Refused clients are reported this often at most, and counted always: a flood of datagrams must
/// not become a flood of events.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A bound socket with its sessions.
pub(super) struct Edge {
    address: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
    /// Whose the next session is; `None` once the socket closes.
    owner: RefCell<Option<Rc<Share>>>,
    sessions: RefCell<HashMap<Key, Rc<Session>>>,
    /// The last session has gone, or the socket has an owner again.
    changed: Notify,
    /// Receives; `None` once the socket is being dropped.
    task: RefCell<Option<JoinHandle<()>>>,
    reported: Cell<Moment>,
}

/// What tells sessions of one edge socket apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    /// The address that the client reached, from which it expects the reply.
    edge: IpAddr,
}

impl Edge {
    /// A socket that [receives](Self::receive) nothing yet.
    ///
    /// # Errors
    /// The runtime cannot watch the socket, or the kernel refuses an option.
    pub(super) fn open(
        address: SocketAddr,
        socket: Socket,
        share: Rc<Share>,
    ) -> io::Result<Rc<Self>> {
        let state = UdpSocketState::new((&socket).into())?;
        socket::allow_fragments(&socket, address.ip())?;
        Ok(Rc::new(Self {
            address,
            socket: UdpSocket::from_std(socket.into())?,
            state,
            owner: RefCell::new(Some(share)),
            sessions: RefCell::default(),
            changed: Notify::new(),
            task: RefCell::new(None),
            reported: Cell::default(),
        }))
    }

    /// Receives from now on; a second call has no effect.
    pub(super) fn receive(self: &Rc<Self>) {
        let mut task = self.task.borrow_mut();
        task.get_or_insert_with(|| spawn_local(Rc::clone(self).receive_all()));
    }

    pub(super) fn bind(&self) -> Bind {
        Bind {
            transport: Transport::Udp,
            address: self.address,
        }
    }

    /// The same socket for another process.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Receives no more, and leaves the sessions to the process that goes on with them.
    pub(super) async fn release(&self, worker: usize) -> Vec<Left<SessionNote>> {
        self.close();
        if let Some(task) = self.task.take() {
            stop(task).await;
        }
        let sessions = self.sessions.take().into_values();
        sessions
            .filter_map(|session| session.leave(worker))
            .collect()
    }

    /// Goes on with a session of another process, before anything is received.
    ///
    /// # Errors
    /// The runtime cannot watch its socket.
    pub(super) fn adopt(self: &Rc<Self>, left: Left<SessionNote>) -> io::Result<()> {
        let Some(share) = self.owner.borrow().as_ref().map(Rc::clone) else {
            return Ok(());
        };
        let key = Key {
            client: left.note.client,
            edge: left.note.edge,
        };
        let account = Account::resume(&share, &left.note);
        let session = Session::resume(self, account, left)?;
        self.sessions.borrow_mut().insert(key, Rc::clone(&session));
        share.newcomers.add(&session);
        session.spawn(&share.tasks);
        Ok(())
    }

    /// Sessions that begin from now on belong to `share`, also if the socket was closing. Those of
    /// the app before go on until its drain ends, if it is gone. False if the socket has closed.
    pub(super) fn hand_over(&self, share: Rc<Share>) -> bool {
        let open = self.task.borrow().is_some();
        if open {
            *self.owner.borrow_mut() = Some(share);
            self.changed.notify_one();
        }
        open
    }

    /// Lets no new client in.
    pub(super) fn close(&self) {
        *self.owner.borrow_mut() = None;
    }

    /// After [`close`](Self::close): drops the socket when there are no more sessions, and ends
    /// those that are left when `until` is reached. Returns early if it is handed over.
    pub(super) async fn drain(&self, until: Until) {
        let is_closing = || self.owner.borrow().is_none();
        let over = async {
            while is_closing() && !self.sessions.borrow().is_empty() {
                self.changed.notified().await;
            }
        };
        tokio::select! {
            () = over => {}
            () = until.reached() => {}
        }
        if !is_closing() {
            return;
        }
        let task = self.task.take();
        let left: Vec<_> = self.sessions.borrow().values().map(Rc::clone).collect();
        left.iter()
            .for_each(|session| session.end(Status::INTERNAL));
        if let Some(task) = task {
            stop(task).await;
        }
    }

    /// Takes datagrams of clients to their sessions, for ever.
    async fn receive_all(self: Rc<Self>) {
        loop {
            let received = match self.socket.readable().await {
                Ok(()) => self.take(),
                Err(error) => Err(error),
            };
            match received {
                Ok(()) => consume_budget().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    log::debug!("{}: cannot receive: {error}", self.address);
                    if let Some(owner) = &*self.owner.borrow() {
                        owner.stats().accept_errors.add(1);
                    }
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn take(self: &Rc<Self>) -> io::Result<()> {
        datagrams::receive(
            &self.socket,
            Interest::READABLE,
            &self.state,
            |meta, datagrams| {
                let key = Key {
                    client: meta.addr,
                    edge: meta.dst_ip.unwrap_or(self.address.ip()),
                };
                self.deliver(key, datagrams);
            },
        )
    }

    fn deliver(self: &Rc<Self>, key: Key, datagrams: Datagrams<'_>) {
        let known = self.sessions.borrow().get(&key).map(Rc::clone);
        if let Some(session) = known
            && session.forward(datagrams).is_ok()
        {
            return;
        }
        // Unknown, or its origin has just refused it and another may take it.
        if let Some(session) = self.begin(key) {
            // If this one refuses as well, the client's next datagram finds the next.
            let _ = session.forward(datagrams);
        }
    }

    fn begin(self: &Rc<Self>, key: Key) -> Option<Rc<Session>> {
        let share = self.owner.borrow().as_ref().map(Rc::clone)?;
        let account = self.admit(&share, key)?;
        let session = Session::connect(self, key, account)?;
        self.sessions.borrow_mut().insert(key, Rc::clone(&session));
        share.newcomers.add(&session);
        session.spawn(&share.tasks);
        Some(session)
    }

    /// When the app is full, a session whose client may be nobody makes room.
    fn admit(&self, share: &Rc<Share>, key: Key) -> Option<Account> {
        let serving = share.service.serving();
        let refusal = match Account::open(share, serving, key.client) {
            Ok(account) => return Some(account),
            Err(refusal) => refusal,
        };
        let (mut limit, mut serving) = refusal;
        if limit == Limit::Connections && share.newcomers.evict() {
            share.stats().evicted.add(1);
            (limit, serving) = match Account::open(share, serving, key.client) {
                Ok(account) => return Some(account),
                Err(refusal) => refusal,
            };
        }
        if self.is_due() {
            refuse(share, &serving.app, key.client, limit);
        } else {
            share.stats().refuse(limit);
        }
        None
    }

    /// A client is refused that was let in.
    fn refuse_late(&self, account: &Account, limit: Limit) {
        if self.is_due() {
            account.refused(limit);
        } else {
            account.refused_unseen(limit);
        }
    }

    /// Whether a refusal may be reported again.
    fn is_due(&self) -> bool {
        let now = Moment::now();
        let is_due = now.since(self.reported.get()) >= REPORT_EVERY;
        if is_due {
            self.reported.set(now);
        }
        is_due
    }

    /// Sends to a client; the number of bytes that went before an error.
    fn send(&self, key: Key, datagrams: Datagrams<'_>) -> Result<(), (usize, io::Error)> {
        datagrams.send(
            &self.socket,
            &self.state,
            &Transmit {
                destination: key.client,
                ecn: datagrams.ecn,
                contents: &[],
                segment_size: None,
                src_ip: Some(key.edge),
            },
        )
    }

    async fn writable(&self) -> io::Result<()> {
        datagrams::writable(&self.socket).await
    }

    fn forget(&self, key: &Key) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.remove(key);
        if sessions.is_empty() {
            self.changed.notify_one();
        }
    }
}
