//! What a connection or session counts, holds and reports, from its admission to its end.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    bandwidth::Bandwidth,
    limits::{self, Limit, Permit},
    service::{Serving, Share},
    shortcut::Shortcut,
    succession::SessionNote,
};
use crate::{
    config::{App, Fingerprint, Mode, Transport},
    event::{ClientMatchedIpFirewall, Kind, Record, Status, TlsStatus},
    geo::Country,
};

/// The books of one connection or session. They are closed once: by [`close`](Self::close), or, if
/// its task is cut, on drop.
pub(super) struct Account {
    share: Rc<Share>,
    pub(super) serving: Arc<Serving>,
    pub(super) client: SocketAddr,
    /// The limit that ends it, as events have it.
    reason: Cell<&'static str>,
    /// `None` once closed.
    permit: Cell<Option<Permit>>,
    opened: Cell<Option<Opened>>,
    round_trips: Cell<RoundTrips>,
    ingress: Cell<u64>,
    egress: Cell<u64>,
    /// `None` where no TLS is spoken here.
    tls: RefCell<Option<Box<TlsNotes>>>,
}

/// See [`Account::leave`].
pub(super) struct Books {
    pub(super) opened: Timestamp,
    /// Bytes from the client, and to it.
    pub(super) ingress: u64,
    pub(super) egress: u64,
}

/// What is known of the TLS of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsNotes {
    pub(super) server_name: Option<Arc<str>>,
    pub(super) client: Spoken,
    pub(super) origin: Spoken,
    pub(super) fingerprint: Option<Fingerprint>,
}

/// What was agreed with one side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spoken {
    pub(super) status: TlsStatus,
    pub(super) protocol: &'static str,
    pub(super) cipher: &'static str,
}

#[derive(Clone, Copy)]
struct Opened {
    at: Timestamp,
    origin: SocketAddr,
}

/// Smoothed round-trip times by TCP's own measure; zero for UDP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrips {
    pub(super) client: Duration,
    pub(super) origin: Duration,
}

impl Account {
    /// Admits `client`, or says which limit stands against it.
    pub(super) fn open(
        share: &Rc<Share>,
        serving: Arc<Serving>,
        client: SocketAddr,
    ) -> Result<Self, (Limit, Arc<Serving>)> {
        let admission = &share.service.admission;
        match admission.admit(client.ip(), &serving.app.limits, &serving.rates) {
            Ok(permit) => {
                share.stats().connections.add(1);
                let account = Self {
                    share: Rc::clone(share),
                    serving,
                    client,
                    reason: Cell::new(""),
                    permit: Cell::new(Some(permit)),
                    opened: Cell::new(None),
                    round_trips: Cell::default(),
                    ingress: Cell::new(0),
                    egress: Cell::new(0),
                    tls: RefCell::default(),
                };
                if account.app().transport == Transport::Tcp {
                    // Whoever gets this far has completed a handshake. (Whoever is to know who is
                    // connected learns of it here, and at the end.)
                    account.prove();
                }
                Ok(account)
            }
            Err(limit) => Err((limit, serving)),
        }
    }

    /// Goes on with the books of a session that another process has opened.
    pub(super) fn resume(share: &Rc<Share>, note: &SessionNote) -> Self {
        share.stats().connections.add(1);
        let opened = Opened {
            at: note.opened,
            origin: note.origin,
        };
        Self {
            share: Rc::clone(share),
            serving: share.service.serving(),
            client: note.client,
            reason: Cell::new(""),
            permit: Cell::new(Some(share.service.admission.readmit(note.client.ip()))),
            opened: Cell::new(Some(opened)),
            round_trips: Cell::default(),
            ingress: Cell::new(note.ingress),
            egress: Cell::new(note.egress),
            tls: RefCell::default(),
        }
    }

    /// Leaves the books to the process that goes on with them: this is no end. `None` if they are
    /// closed, or there was never an origin.
    pub(super) fn leave(&self) -> Option<Books> {
        let opened = self.opened.get()?;
        self.permit.take()?;
        Some(Books {
            opened: opened.at,
            ingress: self.ingress.get(),
            egress: self.egress.get(),
        })
    }

    pub(super) fn app(&self) -> &App {
        &self.serving.app
    }

    /// Who may move the datagrams past the proxy.
    pub(super) fn shortcut(&self) -> Option<&dyn Shortcut> {
        self.share.service.shortcut.as_deref()
    }

    /// The client has proved to be real.
    pub(super) fn prove(&self) {
        let proofs = &self.share.service.proofs;
        proofs.note(self.app().id, self.source());
    }

    /// What bounds the bytes of its app.
    pub(super) fn bandwidth(&self) -> &Arc<Bandwidth> {
        &self.share.service.bandwidth
    }

    /// Who the client counts as.
    pub(super) fn source(&self) -> IpAddr {
        limits::source(self.client.ip())
    }

    /// Whether the round-trip times are worth their system calls.
    pub(super) fn wants_round_trips(&self) -> bool {
        self.share.service.events.is_wanted()
    }

    pub(super) fn set_round_trips(&self, round_trips: RoundTrips) {
        self.round_trips.set(round_trips);
    }

    /// An origin was reached.
    pub(super) fn opened(&self, origin: SocketAddr) {
        let at = Timestamp::now();
        self.opened.set(Some(Opened { at, origin }));
        self.report(Kind::Connect, Status::OPENED, at);
    }

    /// No origin could be found or reached, or the one of a UDP session refuses.
    pub(super) fn origin_error(&self, status: Status) {
        self.share.stats().origin_errors.add(1);
        let kind = match status {
            Status::UNRESOLVABLE => Kind::ResolveOrigin,
            _ => Kind::OriginError,
        };
        self.report(kind, status, Timestamp::now());
    }

    /// Notes something about the TLS of the connection.
    pub(super) fn note_tls(&self, note: impl FnOnce(&mut TlsNotes)) {
        note(self.tls.borrow_mut().get_or_insert_default());
    }

    /// The server that the client named.
    pub(super) fn server_name(&self) -> Option<Arc<str>> {
        self.tls.borrow().as_ref()?.server_name.clone()
    }

    /// A handshake has failed, and with it the connection.
    pub(super) fn tls_error(&self, status: Status) {
        self.share.stats().tls_errors.add(1);
        self.report(Kind::TlsError, status, Timestamp::now());
    }

    /// The client is not wanted.
    pub(super) fn filtered(&self, status: Status) {
        self.share.stats().refused.add(1);
        self.report(Kind::ClientFiltered, status, Timestamp::now());
    }

    /// A limit ends it: events say which.
    pub(super) fn end_by(&self, limit: &'static str) {
        self.reason.set(limit);
    }

    /// A limit refuses the client after all.
    pub(super) fn refused(&self, limit: Limit) {
        self.share.stats().refuse(limit);
        self.end_by(limit.word());
        self.report(Kind::ClientFiltered, Status::DENIED, Timestamp::now());
    }

    /// The same, but not for events.
    pub(super) fn refused_unseen(&self, limit: Limit) {
        self.share.stats().refuse(limit);
    }

    /// The client has to wait for a place at an origin.
    pub(super) fn queued(&self) {
        self.share.stats().queued.add(1);
    }

    /// How long a session may go on that has an origin; `None`: as long as it likes.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let most = self.app().timeouts.max_duration?;
        let opened = self.opened.get();
        let began = opened.map_or_else(Timestamp::now, |opened| opened.at);
        // Another process may have begun it, by another clock.
        let passed = Duration::try_from(Timestamp::now().duration_since(began));
        Some(most.saturating_sub(passed.unwrap_or_default()))
    }

    /// It has lasted for as long as one may, and ends.
    pub(super) fn expires(&self) {
        self.share.stats().expired.add(1);
        self.end_by("max_duration");
    }

    /// The same. Closes the books.
    pub(super) fn expire(&self) {
        self.expires();
        if self.opened.get().is_none() {
            self.report(Kind::ClientFiltered, Status::DENIED, Timestamp::now());
        }
        self.close(Status::DENIED);
    }

    /// Received from the client.
    pub(super) fn ingress(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.ingress.set(self.ingress.get() + bytes);
        self.share.stats().ingress_bytes.add(bytes);
    }

    /// Sent to the client.
    pub(super) fn egress(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.egress.set(self.egress.get() + bytes);
        self.share.stats().egress_bytes.add(bytes);
    }

    /// A datagram was lost on the way.
    pub(super) fn dropped(&self) {
        self.share.stats().dropped_datagrams.add(1);
    }

    /// Datagrams for which there was no bandwidth.
    pub(super) fn exceeds_bandwidth(&self, datagrams: usize) {
        self.share.stats().bandwidth_dropped.add(datagrams as u64);
    }

    /// Datagrams for a client that has not proved to be real, beyond what it may be sent.
    pub(super) fn amplifies(&self, datagrams: usize, mode: Mode) {
        let stats = self.share.stats();
        let counter = match mode {
            Mode::Enforce => &stats.amplification_dropped,
            Mode::Off | Mode::Monitor => &stats.amplification_monitored,
        };
        counter.add(datagrams as u64);
    }

    /// The end. Gives the permit back; a second call has no effect.
    pub(super) fn close(&self, status: Status) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        drop(permit);
        if self.app().transport == Transport::Tcp {
            self.prove();
        }
        if self.opened.get().is_some() {
            self.report(Kind::Disconnect, status, Timestamp::now());
        }
    }

    fn report(&self, kind: Kind, status: Status, now: Timestamp) {
        if !self.share.service.events.is_wanted() {
            return;
        }
        let opened = self.opened.get();
        let origin = opened.map(|opened| opened.origin);
        let round_trips = self.round_trips.get();
        let tls = self.tls.borrow().as_deref().cloned().unwrap_or_default();
        self.share.service.events.send(Record {
            client_bytes: self.ingress.get(),
            client_tcp_rtt: nanoseconds(round_trips.client),
            client_tls_cipher: tls.client.cipher,
            client_tls_client_hello_server_name: tls.server_name,
            client_tls_protocol: tls.client.protocol,
            client_tls_status: tls.client.status,
            connect_timestamp: opened.map(|opened| opened.at),
            disconnect_timestamp: (kind == Kind::Disconnect).then_some(now),
            origin_bytes: self.egress.get(),
            origin_ip: origin.map(|origin| origin.ip()),
            origin_port: origin.map_or(0, |origin| origin.port()),
            origin_tcp_rtt: nanoseconds(round_trips.origin),
            origin_tls_cipher: tls.origin.cipher,
            origin_tls_fingerprint: tls.fingerprint,
            origin_tls_protocol: tls.origin.protocol,
            origin_tls_status: tls.origin.status,
            reason: self.reason.get(),
            ..record(&self.share, self.app(), self.client, kind, status, now)
        });
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close(Status::INTERNAL);
    }
}

/// Counts and reports a client that a limit refused.
pub(super) fn refuse(share: &Share, app: &App, client: SocketAddr, limit: Limit) {
    log::debug!("{}: {client} refused: {}", app.name, limit.word());
    share.stats().refuse(limit);
    let events = &share.service.events;
    if events.is_wanted() {
        let now = Timestamp::now();
        let kind = Kind::ClientFiltered;
        events.send(Record {
            reason: limit.word(),
            ..record(share, app, client, kind, Status::DENIED, now)
        });
    }
}

/// A record of a client that has no origin yet.
fn record(
    share: &Share,
    app: &App,
    client: SocketAddr,
    event: Kind,
    status: Status,
    timestamp: Timestamp,
) -> Record {
    Record {
        application: app.id,
        client_asn: 0,
        client_bytes: 0,
        client_country: Country::UNKNOWN,
        client_ip: client.ip(),
        client_matched_ip_firewall: ClientMatchedIpFirewall::Unknown,
        client_port: client.port(),
        client_proto: app.transport.into(),
        client_tcp_rtt: 0,
        client_tls_cipher: "",
        client_tls_client_hello_server_name: None,
        client_tls_protocol: "",
        client_tls_status: TlsStatus::Unknown,
        colo_code: share.service.events.host(),
        connect_timestamp: None,
        disconnect_timestamp: None,
        event,
        ip_firewall: app.ip_firewall,
        origin_bytes: 0,
        origin_ip: None,
        origin_port: 0,
        origin_proto: app.transport.into(),
        origin_tcp_rtt: 0,
        origin_tls_cipher: "",
        origin_tls_fingerprint: None,
        origin_tls_mode: app.tls_mode().word(),
        origin_tls_protocol: "",
        origin_tls_status: TlsStatus::Unknown,
        proxy_protocol: app.proxy_protocol,
        reason: "",
        status,
        timestamp,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
