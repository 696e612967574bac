//! What one proxy leaves to the next, so that no client notices: the sockets on which it listens,
//! and its UDP sessions with theirs. TCP connections stay with who accepted them.

use std::{
    collections::{BTreeMap, HashMap},
    io, iter,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::{ApplyError, Proxy, clock::Moment, plan::Bind, socket, udp::Exchange, worker::Worker};
use crate::config::{AppId, Transport};

/// A socket, and what has to be known of it.
#[derive(Debug)]
pub struct Left<T> {
    pub note: T,
    pub socket: OwnedFd,
}

/// A socket to which clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerNote {
    pub(super) bind: Bind,
    /// The kernel leads the same clients to the same member of a group of sockets, so that they have
    /// to stay with the worker of that number.
    pub(super) worker: usize,
}

/// A UDP session; its socket is the one that is connected to the origin.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionNote {
    pub(super) listener: ListenerNote,
    pub(super) app: AppId,
    pub(super) client: SocketAddr,
    /// The address that the client reached.
    pub(super) edge: IpAddr,
    pub(super) origin: SocketAddr,
    pub(super) opened: Timestamp,
    pub(super) last_used: Moment,
    /// Bytes from the client, and to it.
    pub(super) ingress: u64,
    pub(super) egress: u64,
    /// A PROXY header that goes before the first datagram has gone.
    pub(super) header_sent: bool,
    pub(super) exchange: Exchange,
    /// Bytes that the client may be sent before it has proved to be real.
    pub(super) allowance: u64,
}

/// Listening sockets that were there before this proxy.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    groups: HashMap<Bind, BTreeMap<usize, Socket>>,
    /// The sessions behind the UDP sockets are still to come: nothing is to be received before.
    pub(super) sessions_follow: bool,
}

impl Inheritance {
    pub(super) fn new(listeners: Vec<Left<ListenerNote>>) -> Self {
        let mut groups: HashMap<Bind, BTreeMap<usize, Socket>> = HashMap::new();
        for Left { note, socket } in listeners {
            let group = groups.entry(note.bind).or_default();
            group.insert(note.worker, socket.into());
        }
        Self {
            groups,
            sessions_follow: true,
        }
    }

    /// Of the service manager, which knows nothing of workers: one socket for each, or one for all. (A
    /// UDP socket is one worker's, as are the sessions behind it.) What is left over, or is no socket
    /// for clients, is refused.
    ///
    /// # Errors
    /// One cannot be used; with its place in the list.
    pub(super) fn of_manager(
        sockets: Vec<Socket>,
        workers: usize,
    ) -> Result<Self, (usize, io::Error)> {
        let mut groups: HashMap<Bind, BTreeMap<usize, Socket>> = HashMap::new();
        for (place, socket) in sockets.into_iter().enumerate() {
            let bind = socket::prepare(&socket).map_err(|error| (place, error))?;
            let group = groups.entry(bind).or_default();
            if group.len() == workers {
                let error = io::Error::other("there are more sockets for its address than workers");
                return Err((place, error));
            }
            group.insert(group.len(), socket);
        }
        for (bind, group) in &mut groups {
            let Some(shared) = group.get(&0).filter(|_| bind.transport == Transport::Tcp) else {
                continue;
            };
            let copies = (group.len()..workers).map(|worker| Ok((worker, shared.try_clone()?)));
            let copies: io::Result<Vec<_>> = copies.collect();
            group.extend(copies.map_err(|error| (0, error))?);
        }
        Ok(Self {
            groups,
            sessions_follow: false,
        })
    }

    /// The sockets of the workers, from the first one on.
    pub(super) fn take(&mut self, bind: &Bind, workers: usize) -> Option<Vec<Socket>> {
        let group = self.groups.get(bind)?;
        if group.len() > workers || !group.keys().copied().eq(0..group.len()) {
            return None;
        }
        Some(self.groups.remove(bind)?.into_values().collect())
    }

    pub(super) fn binds(&self) -> impl Iterator<Item = &Bind> {
        self.groups.keys()
    }
}

impl Proxy {
    /// Listens on sockets of another process where the apps that are applied next have the same
    /// addresses; there must be as many workers as that has. Nothing comes out of UDP sockets before
    /// [`adopt`](Self::adopt).
    pub async fn inherit(&self, listeners: Vec<Left<ListenerNote>>) {
        self.state.lock().await.inheritance = Inheritance::new(listeners);
    }

    /// Listens on sockets of the service manager where the apps that are applied next have the same
    /// addresses.
    ///
    /// # Errors
    /// One of them is of no use; with its place in the list.
    pub async fn activate(&self, sockets: Vec<Socket>) -> Result<(), (usize, io::Error)> {
        let inheritance = Inheritance::of_manager(sockets, self.workers.len())?;
        self.state.lock().await.inheritance = inheritance;
        Ok(())
    }

    /// Goes on with the UDP sessions of another process. The number of those that have lost their
    /// app or their address, which have ended.
    ///
    /// # Errors
    /// A worker is dead.
    pub async fn adopt(&self, sessions: Vec<Left<SessionNote>>) -> Result<usize, ApplyError> {
        let mut of_workers: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut homeless = 0;
        for session in sessions {
            match of_workers.get_mut(session.note.listener.worker) {
                Some(of_worker) => of_worker.push(session),
                None => homeless += 1,
            }
        }
        let workers = iter::zip(&self.workers, of_workers);
        let done: Vec<_> = workers
            .map(|(worker, sessions)| worker.adopt(sessions))
            .collect();
        for done in done {
            homeless += done?.await.map_err(|_gone| ApplyError::Worker)?;
        }
        Ok(homeless)
    }

    /// The listening sockets, for another process. Nothing changes.
    ///
    /// # Errors
    /// A worker is dead, or no more files may be open.
    pub async fn listeners(&self) -> Result<Vec<Left<ListenerNote>>, ApplyError> {
        let asked: Vec<_> = self.workers.iter().map(Worker::listeners).collect();
        let mut all = Vec::new();
        for listeners in asked {
            all.extend(listeners?.await.map_err(|_gone| ApplyError::Worker)??);
        }
        Ok(all)
    }

    /// Lets no new client in, and leaves the UDP sessions to another process. What remains are TCP
    /// connections, until [`shutdown`](Self::shutdown).
    pub async fn release(&self) -> Vec<Left<SessionNote>> {
        let asked: Vec<_> = self.workers.iter().map(Worker::release).collect();
        let mut all = Vec::new();
        for sessions in asked.into_iter().flatten() {
            // A dead worker has nothing to leave.
            all.extend(sessions.await.unwrap_or_default());
        }
        all
    }
}
