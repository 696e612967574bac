//! What one proxy leaves to the next, so that no client notices: the sockets on which it listens,
//! and its UDP sessions with theirs. TCP connections stay with who accepted them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::{clock::Moment, plan::Bind, socket, udp::Exchange};
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
