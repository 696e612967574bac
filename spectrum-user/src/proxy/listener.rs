//! A bound socket of one worker: an edge address, and the app whose clients come through it.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Duration,
};

use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::{
    account::{Account, refuse},
    plan::Bind,
    service::Share,
    tasks::stop,
    tcp,
    udp::Edge,
};
use crate::config::Transport;

/// How long to wait when the host has run out of what a connection needs: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(super) enum Listener {
    Tcp {
        socket: Rc<TcpListener>,
        owner: Owner,
        task: JoinHandle<()>,
    },
    Udp(Rc<Edge>),
}

/// The app that gets the next connection.
type Owner = Rc<RefCell<Rc<Share>>>;

impl Listener {
    /// # Errors
    /// The runtime cannot watch the socket.
    pub(super) fn open(bind: &Bind, socket: Socket, share: Rc<Share>) -> io::Result<Self> {
        match bind.transport {
            Transport::Tcp => {
                let socket = Rc::new(TcpListener::from_std(socket.into())?);
                let owner = Rc::new(RefCell::new(share));
                let accepting = accept_all(Rc::clone(&socket), bind.address, Rc::clone(&owner));
                let task = spawn_local(accepting);
                Ok(Self::Tcp {
                    socket,
                    owner,
                    task,
                })
            }
            Transport::Udp => Ok(Self::Udp(Edge::open(bind.address, socket, share)?)),
        }
    }

    /// The same socket for another process.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp { socket, .. } => socket.as_fd().try_clone_to_owned(),
            Self::Udp(edge) => edge.socket(),
        }
    }

    /// New connections and sessions belong to `share` from now on.
    pub(super) fn hand_over(&self, share: Rc<Share>) {
        match self {
            Self::Tcp { owner, .. } => *owner.borrow_mut() = share,
            // It is not closed, or the worker had dropped it.
            Self::Udp(edge) => drop(edge.hand_over(share)),
        }
    }

    /// Lets no new client in. A UDP socket has to stay open for the sessions behind it: it is
    /// returned, to be [drained](Edge::drain).
    pub(super) async fn close(self) -> Option<Rc<Edge>> {
        match self {
            Self::Tcp { task, .. } => {
                stop(task).await;
                None
            }
            Self::Udp(edge) => {
                edge.close();
                Some(edge)
            }
        }
    }
}

async fn accept_all(listener: Rc<TcpListener>, address: SocketAddr, owner: Owner) {
    let mut back_off = BACK_OFF.0;
    loop {
        let accepted = listener.accept().await;
        let share = Rc::clone(&owner.borrow());
        match accepted {
            Ok((client, peer)) => {
                back_off = BACK_OFF.0;
                admit(client, peer, address, &share);
            }
            Err(error) => {
                share.stats().accept_errors.add(1);
                log::debug!("{address}: cannot accept: {error}");
                if concerns_one_connection(&error) {
                    continue;
                }
                sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }
}

fn admit(client: TcpStream, peer: SocketAddr, address: SocketAddr, share: &Rc<Share>) {
    match Account::open(share, share.service.serving(), peer) {
        Ok(account) => {
            share.tasks.spawn(tcp::serve(client, address, account));
        }
        Err((limit, serving)) => {
            refuse(share, &serving.app, peer, limit);
            tcp::reset(&client);
        }
    }
}

/// Whether the next connection may well be accepted at once; see `accept(2)`.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::EOPNOTSUPP
                | libc::EINTR
        )
    )
}
