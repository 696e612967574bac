//! A UDP session: one client at one edge address, and a socket of its own to an origin.

mod carried;
mod succession;

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
};

use quinn_udp::{EcnCodepoint, Transmit};
use tokio::{
    io::Interest,
    net::UdpSocket,
    task::{AbortHandle, coop::consume_budget},
};

use super::{
    Edge, Key,
    allowance::Allowance,
    carriage::Carriage,
    datagrams::{self, Datagrams},
    exchange::Exchange,
};
use crate::{
    config::{HeaderOn, Mode, ProxyProtocol, Transport},
    event::Status,
    proxy::{
        account::Account,
        bandwidth::{Gate, Way},
        clock::{Idle, Moment, after},
        limits::Limit,
        origins::Held,
        proxy_protocol::{Ends, Header, SIMPLE_LENGTH, encode_simple, encode_v2, parse_simple},
        socket,
        tasks::Tasks,
    },
};

pub(super) struct Session {
    edge: Rc<Edge>,
    key: Key,
    account: Account,
    socket: UdpSocket,
    origin: Held,
    address: SocketAddr,
    header: HeaderMode,
    header_sent: Cell<bool>,
    exchange: Exchange,
    allowance: Allowance,
    carriage: Carriage,
    gates: RefCell<[Gate; 2]>,
    idle: Idle,
    /// The origin has refused a datagram, and that is reported.
    refused: Cell<bool>,
    ended: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
}

#[derive(Clone, Copy, Debug)]
enum HeaderMode {
    Off,
    First(Header),
    Each(Header),
    Simple(Header),
}

/// Datagrams that the edge socket did not take yet.
struct Waiting {
    bytes: Vec<u8>,
    size: usize,
    ecn: Option<EcnCodepoint>,
}

impl Session {
    /// A session with the first origin to which there is a way; `None` is counted and reported.
    pub(super) fn connect(edge: &Rc<Edge>, key: Key, account: Account) -> Option<Rc<Self>> {
        let mut status = account.serving.origins.status_of_none();
        let mut attempts = account.serving.origins.attempts(key.client.ip());
        for origin in &mut attempts {
            let address = origin.address(account.app().ports, edge.address.port());
            let from = account
                .serving
                .origins
                .outgoing(key.client.ip(), address.ip());
            let connected = socket::connect_udp(address, from)
                .and_then(|socket| socket::prepare_to_gather(socket, address.ip()))
                .and_then(UdpSocket::from_std);
            let socket = match connected {
                Ok(socket) => socket,
                Err(error) => {
                    log::debug!("{}: origin {address}: {error}", account.app().name);
                    status = connect_status(&error);
                    if status != Status::INTERNAL {
                        origin.failed();
                    }
                    continue;
                }
            };
            account.opened(address);
            return Some(Rc::new(Self {
                header: HeaderMode::new(edge, key, &account),
                allowance: Allowance::new(account.app().protection.amplification.ratio),
                carriage: Carriage::default(),
                idle: Idle::new(account.app().timeouts.idle),
                edge: Rc::clone(edge),
                key,
                account,
                socket,
                origin,
                address,
                header_sent: Cell::new(false),
                gates: RefCell::new([Way::Up, Way::Down].map(Gate::new)),
                exchange: Exchange::begin(Moment::now()),
                refused: Cell::new(false),
                ended: Cell::new(false),
                task: RefCell::new(None),
            }));
        }
        if attempts.are_full() {
            edge.refuse_late(&account, Limit::Origins);
        } else {
            account.origin_error(status);
        }
        None
    }

    pub(super) fn spawn(self: &Rc<Self>, tasks: &Tasks) {
        let task = tasks.spawn(Rc::clone(self).run());
        *self.task.borrow_mut() = Some(task);
    }

    pub(super) fn last_used(&self) -> Moment {
        self.idle.last()
    }

    pub(super) fn may_be_evicted(&self) -> bool {
        !self.ended.get() && !self.exchange.is_two_way()
    }

    /// From the client to the origin. What the origin's socket does not take is dropped, as on any
    /// link that is too narrow.
    ///
    /// # Errors
    /// The origin refuses or is down, and another may not be: the session has ended.
    pub(super) fn forward(&self, datagrams: Datagrams<'_>) -> Result<(), Ended> {
        if self.origin.is_down() && self.account.serving.origins.has_better(&self.origin) {
            self.end(Status::ORIGIN_TIMED_OUT);
            return Err(Ended);
        }
        self.idle.touch();
        self.account.ingress(datagrams.bytes.len());
        if !self.exchange.is_proof() {
            self.allowance.earn(datagrams);
        }
        if self.exchange.hear(self.idle.last()) {
            self.account.prove();
        }
        self.carry();
        let Some(datagrams) = self.within_bandwidth(Way::Up, datagrams) else {
            return Ok(());
        };
        let sent = match &self.header {
            HeaderMode::Off => self.send(datagrams),
            HeaderMode::First(header) if !self.header_sent.replace(true) => {
                self.send_first(header, datagrams)
            }
            HeaderMode::First(_) => self.send(datagrams),
            HeaderMode::Each(header) | HeaderMode::Simple(header) => datagrams
                .each()
                .try_for_each(|datagram| datagram.with_header(header, |whole| self.send(whole))),
        };
        let Err(error) = sent else { return Ok(()) };
        self.account.dropped();
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return self.origin_refused();
        }
        Ok(())
    }

    /// As many of them as there is bandwidth for; `None`: none.
    fn within_bandwidth<'d>(&self, way: Way, datagrams: Datagrams<'d>) -> Option<Datagrams<'d>> {
        let [up, down] = &mut *self.gates.borrow_mut();
        let gate = match way {
            Way::Up => up,
            Way::Down => down,
        };
        let account = &self.account;
        if !gate.is_limited(account.bandwidth(), account.source()) || datagrams.bytes.is_empty() {
            return Some(datagrams);
        }
        let granted = gate.grant_now(datagrams.bytes.len(), datagrams.size);
        if granted == datagrams.bytes.len() {
            return Some(datagrams);
        }
        let passed = granted / datagrams.size.max(1);
        account.exceeds_bandwidth(datagrams.count() - passed);
        (passed > 0).then(|| datagrams.first(passed))
    }

    fn send_first(&self, header: &Header, datagrams: Datagrams<'_>) -> io::Result<()> {
        let Some(first) = datagrams.each().next() else {
            return Ok(());
        };
        first.with_header(header, |whole| self.send(whole))?;
        let rest = datagrams.skip(first.bytes.len());
        if rest.bytes.is_empty() {
            Ok(())
        } else {
            self.send(rest)
        }
    }

    fn send(&self, datagrams: Datagrams<'_>) -> io::Result<()> {
        let to = Transmit {
            destination: self.address,
            ecn: datagrams.ecn,
            contents: &[],
            segment_size: None,
            src_ip: None,
        };
        // The state says what the kernel can do, not which socket it is: that of the edge will do.
        let sent = datagrams.send(&self.socket, &self.edge.state, &to);
        sent.map_err(|(_, error)| error)
    }

    /// An ICMP error says that nobody listens there.
    ///
    /// # Errors
    /// The session has ended, because there is an origin that may be better. Otherwise it goes on:
    /// the origin may come back.
    fn origin_refused(&self) -> Result<(), Ended> {
        self.origin.failed();
        if !self.refused.replace(true) {
            self.account.origin_error(Status::ORIGIN_IO_REFUSED);
        }
        if self.account.serving.origins.has_better(&self.origin) {
            self.end(Status::ORIGIN_IO_REFUSED);
            return Err(Ended);
        }
        Ok(())
    }

    fn run(self: Rc<Self>) -> impl Future<Output = ()> {
        // Whatever ends the task ends the session, though it had never run.
        let session = EndOnDrop(self);
        async move {
            let EndOnDrop(session) = &session;
            tokio::select! {
                biased;
                () = session.return_all() => {}
                () = session.book_all() => {}
                () = session.expired() => session.end(Status::CLOSED),
                () = after(session.account.time_left()) => {
                    session.account.expires();
                    session.end(Status::DENIED);
                }
            }
        }
    }

    /// Takes datagrams of the origin to the client, until the session ends.
    async fn return_all(&self) {
        loop {
            let interest = match self
                .socket
                .ready(Interest::READABLE | Interest::ERROR)
                .await
            {
                Ok(ready) if ready.is_readable() => Interest::READABLE,
                // An ICMP error, which the next call reports.
                Ok(_) => Interest::ERROR,
                Err(_) => return self.end(Status::INTERNAL),
            };
            let mut waiting = Vec::new();
            let received =
                datagrams::receive(&self.socket, interest, &self.edge.state, |_, run| {
                    self.origin_sent(run, &mut waiting);
                });
            match received {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if self.origin_refused().is_err() {
                        return;
                    }
                }
                Err(error) => {
                    log::debug!("origin {}: {error}", self.address);
                    return self.end(Status::ORIGIN_UNKNOWN_ERROR);
                }
            }
            for waiting in waiting {
                self.send_when_possible(waiting).await;
            }
            consume_budget().await;
        }
    }

    fn origin_sent(&self, run: Datagrams<'_>, waiting: &mut Vec<Waiting>) {
        self.idle.touch();
        self.refused.set(false);
        self.origin.reached(None);
        self.exchange.answer();
        let HeaderMode::Simple(header) = &self.header else {
            return self.send_allowed(run, waiting);
        };
        for datagram in run.each() {
            if parse_simple(datagram.bytes) == parse_simple(header) {
                self.send_allowed(datagram.skip(SIMPLE_LENGTH), waiting);
            } else {
                // It names another session, or none.
                self.account.dropped();
            }
        }
    }

    /// As much of it as a client may be sent that has yet to prove itself.
    fn send_allowed(&self, run: Datagrams<'_>, waiting: &mut Vec<Waiting>) {
        let mode = self.account.app().protection.amplification.mode;
        if mode == Mode::Off || self.exchange.is_proof() {
            return self.send_back(run, waiting);
        }
        let granted = self.allowance.spend(run);
        let beyond = run.count() - granted;
        if beyond == 0 {
            return self.send_back(run, waiting);
        }
        self.account.amplifies(beyond, mode);
        match (mode, granted) {
            (Mode::Enforce, 0) => {}
            (Mode::Enforce, _) => self.send_back(run.first(granted), waiting),
            (Mode::Off | Mode::Monitor, _) => self.send_back(run, waiting),
        }
    }

    /// Keeps the order: behind one that waits, all wait.
    fn send_back(&self, run: Datagrams<'_>, waiting: &mut Vec<Waiting>) {
        let Some(run) = self.within_bandwidth(Way::Down, run) else {
            return;
        };
        let mut sent = 0;
        if waiting.is_empty() {
            match self.edge.send(self.key, run) {
                Ok(()) => return self.account.egress(run.bytes.len()),
                Err((before, error)) if error.kind() == io::ErrorKind::WouldBlock => sent = before,
                Err((before, _)) => {
                    self.account.egress(before);
                    return self.account.dropped();
                }
            }
        }
        self.account.egress(sent);
        waiting.push(Waiting {
            bytes: run.skip(sent).bytes.to_vec(),
            size: run.size,
            ecn: run.ecn,
        });
    }

    /// The origin is not read in the meantime: the kernel holds what it sends, as far as it can.
    async fn send_when_possible(&self, waiting: Waiting) {
        let mut run = Datagrams {
            bytes: &waiting.bytes,
            size: waiting.size,
            ecn: waiting.ecn,
        };
        loop {
            match self.edge.send(self.key, run) {
                Ok(()) => return self.account.egress(run.bytes.len()),
                Err((sent, error)) => {
                    self.account.egress(sent);
                    run = run.skip(sent);
                    let blocked = error.kind() == io::ErrorKind::WouldBlock;
                    if !blocked || self.edge.writable().await.is_err() {
                        return self.account.dropped();
                    }
                }
            }
        }
    }

    /// Ends it in favour of another.
    pub(super) fn evict(&self) {
        self.account.end_by(Limit::Connections.word());
        self.end(Status::DENIED);
    }

    /// Closes the books and lets the next session of this client begin; a second call has no
    /// effect.
    pub(super) fn end(&self, status: Status) {
        if self.ended.replace(true) {
            return;
        }
        // Before the socket gives its port back.
        if let Some(news) = self.carriage.close() {
            self.book(news);
        }
        self.account.close(status);
        self.edge.forget(&self.key);
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// The session is over.
#[derive(Debug)]
pub(super) struct Ended;

struct EndOnDrop(Rc<Session>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Status::INTERNAL);
    }
}

impl HeaderMode {
    fn new(edge: &Edge, key: Key, account: &Account) -> Self {
        let ends = Ends {
            client: key.client,
            edge: SocketAddr::new(key.edge, edge.address.port()),
        };
        let app = account.app();
        match (app.proxy_protocol, app.proxy_protocol_on) {
            (ProxyProtocol::Off | ProxyProtocol::V1, _) => Self::Off,
            (ProxyProtocol::V2, HeaderOn::First) => Self::First(encode_v2(&ends, Transport::Udp)),
            (ProxyProtocol::V2, HeaderOn::Each) => Self::Each(encode_v2(&ends, Transport::Udp)),
            (ProxyProtocol::Simple, _) => Self::Simple(encode_simple(&ends)),
        }
    }
}

fn connect_status(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => Status::ORIGIN_NETWORK_UNREACHABLE,
        _ if socket::is_short_of_something(error) => Status::INTERNAL,
        _ => Status::ORIGIN_CONNECT_ERROR,
    }
}
