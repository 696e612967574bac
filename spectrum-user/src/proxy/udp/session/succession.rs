//! How a session goes over to another process.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::AsFd as _,
    rc::Rc,
};

use tokio::net::UdpSocket;

use super::{HeaderMode, Session};
use crate::{
    event::Status,
    proxy::{
        account::Account,
        bandwidth::{Gate, Way},
        clock::Idle,
        succession::{Left, ListenerNote, SessionNote},
        udp::{Edge, Key, allowance::Allowance, carriage::Carriage},
    },
};

impl Session {
    /// Goes on with a session of another process.
    ///
    /// # Errors
    /// The runtime cannot watch its socket.
    pub(in crate::proxy::udp) fn resume(
        edge: &Rc<Edge>,
        account: Account,
        Left { note, socket }: Left<SessionNote>,
    ) -> io::Result<Rc<Self>> {
        let key = Key {
            client: note.client,
            edge: note.edge,
        };
        let app = account.app();
        let origins = &account.serving.origins;
        Ok(Rc::new(Self {
            header: HeaderMode::new(edge, key, &account),
            allowance: Allowance::with(app.protection.amplification.ratio, note.allowance),
            carriage: Carriage::default(),
            idle: Idle::since(app.timeouts.idle, note.last_used),
            origin: origins.hold(note.origin, app.ports, edge.address.port()),
            edge: Rc::clone(edge),
            key,
            account,
            socket: UdpSocket::from_std(socket.into())?,
            address: note.origin,
            header_sent: Cell::new(note.header_sent),
            gates: RefCell::new([Way::Up, Way::Down].map(Gate::new)),
            exchange: note.exchange,
            refused: Cell::new(false),
            ended: Cell::new(false),
            task: RefCell::new(None),
        }))
    }

    /// Leaves the session to another process. `None` if it has ended, as it does here if its socket
    /// cannot be passed on: the client's next datagram begins another one then.
    pub(in crate::proxy::udp) fn leave(&self, worker: usize) -> Option<Left<SessionNote>> {
        if self.ended.get() {
            return None;
        }
        let socket = match self.socket.as_fd().try_clone_to_owned() {
            Ok(socket) => socket,
            Err(error) => {
                let app = &self.account.app().name;
                log::warn!("{app}: a session is not passed on: {error}");
                self.end(Status::INTERNAL);
                return None;
            }
        };
        self.ended.set(true);
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if let Some(news) = self.carriage.close() {
            self.book(news);
        }
        let books = self.account.leave()?;
        let listener = ListenerNote {
            bind: self.edge.bind(),
            worker,
        };
        let note = SessionNote {
            listener,
            app: self.account.app().id,
            client: self.key.client,
            edge: self.key.edge,
            origin: self.address,
            opened: books.opened,
            last_used: self.idle.last(),
            ingress: books.ingress,
            egress: books.egress,
            header_sent: self.header_sent.get(),
            exchange: self.exchange.clone(),
            allowance: self.allowance.left(),
        };
        Some(Left { note, socket })
    }
}
