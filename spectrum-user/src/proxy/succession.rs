//! What one proxy leaves to the next, so that no client notices: the sockets on which it listens,
//! and its UDP sessions with theirs. TCP connections stay with who accepted them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::{clock::Moment, plan::Bind, udp::Exchange};
use crate::config::AppId;

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

    /// The sockets of all workers, if there is one for each.
    pub(super) fn take(&mut self, bind: &Bind, workers: usize) -> Option<Vec<Socket>> {
        let group = self.groups.get(bind)?;
        if !group.keys().copied().eq(0..workers) {
            return None;
        }
        Some(self.groups.remove(bind)?.into_values().collect())
    }

    pub(super) fn binds(&self) -> impl Iterator<Item = &Bind> {
        self.groups.keys()
    }
}
