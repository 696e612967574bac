//! UDP: an edge socket of one worker, and the sessions behind it.
//!
//! The kernel spreads clients over the workers by their addresses and ports, so that all datagrams
//! of a session come to one worker.

mod datagrams;
mod newcomers;
mod session;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use quinn_udp::{Transmit, UdpSocketState};
use socket2::Socket;
use tokio::{io::Interest, net::UdpSocket, sync::Notify, task::coop::consume_budget, time::sleep};

use super::{
    account::{Account, refuse},
    clock::Moment,
    limits::Full,
    service::Share,
    socket,
    tasks::Until,
};
use crate::event::Status;
use datagrams::Datagrams;
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
    /// The last session has gone.
    empty: Notify,
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
            empty: Notify::new(),
            reported: Cell::default(),
        }))
    }

    /// Sessions that begin from now on belong to `share`. Those of the app before go on until its
    /// drain ends, if it is gone.
    pub(super) fn hand_over(&self, share: Rc<Share>) {
        *self.owner.borrow_mut() = Some(share);
    }

    pub(super) fn refuse_newcomers(&self) {
        *self.owner.borrow_mut() = None;
    }

    /// Returns when there are no more sessions, and ends those that are left when `until` is
    /// reached.
    pub(super) async fn drain(&self, until: Until) {
        let emptied = async {
            while !self.sessions.borrow().is_empty() {
                self.empty.notified().await;
            }
        };
        tokio::select! {
            () = emptied => {}
            () = until.reached() => {
                let left: Vec<_> = self.sessions.borrow().values().map(Rc::clone).collect();
                left.iter().for_each(|session| session.end(Status::INTERNAL));
            }
        }
    }

    /// Takes datagrams of clients to their sessions, for ever.
    pub(super) async fn receive_all(self: Rc<Self>) {
        loop {
            let received = match self.socket.readable().await {
                Ok(()) => self.receive(),
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

    fn receive(self: &Rc<Self>) -> io::Result<()> {
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
        let (mut full, mut serving) = refusal;
        if full == Full::App && share.newcomers.evict() {
            share.stats().evicted.add(1);
            (full, serving) = match Account::open(share, serving, key.client) {
                Ok(account) => return Some(account),
                Err(refusal) => refusal,
            };
        }
        let now = Moment::now();
        if now.since(self.reported.get()) >= REPORT_EVERY {
            self.reported.set(now);
            refuse(share, &serving.app, key.client, full);
        } else {
            share.stats().refused.add(1);
        }
        None
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
        self.socket.writable().await
    }

    fn forget(&self, key: &Key) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.remove(key);
        if sessions.is_empty() {
            self.empty.notify_one();
        }
    }
}
