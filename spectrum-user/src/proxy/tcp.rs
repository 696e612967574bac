//! One TCP connection, from its admission to its end.

pub(super) mod copy;
mod direction;
mod pipe;
mod queue;
mod relay;

use std::{cell::Cell, io, net::SocketAddr};

use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::{
    account::{Account, RoundTrips},
    clock::{Idle, after},
    limits::Limit,
    origins::{Held, Origins},
    proxy_protocol::{Ends, Header, encode_v1, encode_v2},
    routes::Astray,
    socket::{self, Outgoing},
    tls,
};
use crate::{
    config::{ProxyProtocol, RouteBy, Transport},
    event::Status,
};
pub(super) use direction::{Failure, Progress};
use relay::relay;
pub(super) use relay::{End, Side};

/// Carries bytes between a client that has come to `edge` (perhaps a wildcard) and an origin.
pub(super) fn serve(
    client: TcpStream,
    edge: SocketAddr,
    account: Account,
) -> impl Future<Output = ()> {
    // Here, so that it holds as well when the future is dropped before it ran.
    let client = ResetOnDrop::new(client);
    bounded(client, edge, account)
}

/// For as long as a connection may last.
async fn bounded(client: ResetOnDrop, edge: SocketAddr, account: Account) {
    tokio::select! {
        biased;
        () = carry(client, edge, &account) => {}
        () = after(account.app().timeouts.max_duration) => account.expire(),
    }
}

async fn carry(client: ResetOnDrop, edge: SocketAddr, account: &Account) {
    if let Some(endpoint) = account.serving.tls.clone() {
        // Apart, so that connections without TLS stay small.
        return Box::pin(tls::carry(client, edge, account, &endpoint)).await;
    }
    let (origins, first) = match &account.serving.routes {
        None => (&account.serving.origins, Vec::new()),
        Some(routes) => match Box::pin(routes.choose(&client.stream, account)).await {
            Ok(chosen) => chosen,
            Err(astray) => {
                if matches!((&astray, routes.by), (Astray::Unknown, RouteBy::Tls)) {
                    Box::pin(tls::refuse_name(client)).await;
                }
                return astray.close(account, routes.by);
            }
        },
    };
    let reached = tokio::select! {
        biased;
        reached = reach(origins, account, &client.stream, edge.port(), async |origin| Ok(origin)) => reached,
        // Nobody waits for the origin any more.
        _ = client.stream.ready(Interest::ERROR) => return account.close(Status::CLIENT_RESET),
    };
    let Reached {
        origin,
        address,
        held: _held,
    } = match reached {
        Ok(reached) => reached,
        Err(Unreached::Origin(status)) => return account.origin_error(status),
        Err(Unreached::Limit(limit)) => return account.refused(limit),
        Err(Unreached::Gone) => return account.close(Status::CLIENT_RESET),
    };
    let origin = ResetOnDrop::new(origin);
    let header = header(&client.stream, edge, account);
    // What was read in search of a name is sent on unchanged.
    let opening = (!first.is_empty()).then(|| {
        let header = header.as_deref().unwrap_or_default();
        [header, &first].concat()
    });
    account.ingress(first.len());
    note_round_trips(&client.stream, &origin.stream, account);
    account.opened(address);

    let idle = Idle::new(account.app().timeouts.idle);
    let end = relay(
        &client.stream,
        &origin.stream,
        opening.as_deref().or(header.as_deref()),
        &idle,
        account,
    )
    .await;
    note_round_trips(&client.stream, &origin.stream, account);
    let status = status(&end);
    if let End::Closed | End::Idle { .. } = end {
        client.end_in_order();
        origin.end_in_order();
    }
    account.close(status);
}

/// Closes with RST: the peer learns that this is no orderly end.
pub(super) fn reset(stream: &TcpStream) {
    // It fails only where the peer was faster.
    let _ = stream.set_zero_linger();
}

/// A connection that its peer sees reset, unless it ends in order: what is cut short must not look
/// complete.
pub(super) struct ResetOnDrop {
    pub(super) stream: TcpStream,
    in_order: Cell<bool>,
}

impl ResetOnDrop {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            in_order: Cell::new(false),
        }
    }

    /// What was sent is delivered, and FIN behind it.
    pub(super) fn end_in_order(&self) {
        self.in_order.set(true);
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.in_order.get() {
            reset(&self.stream);
        }
    }
}

/// Why an origin that was reached does not get the connection.
pub(super) enum Refusal {
    /// Another may.
    OfOrigin(Status),
    /// None would: the client is to blame.
    OfClient(Status),
}

/// A connection to an origin, which counts it until the end.
pub(super) struct Reached<T> {
    pub(super) origin: T,
    pub(super) address: SocketAddr,
    pub(super) held: Held,
}

/// Why there is no connection to an origin.
pub(super) enum Unreached {
    /// The status of the last attempt.
    Origin(Status),
    /// All are full.
    Limit(Limit),
    /// The client has hung up while it waited.
    Gone,
}

/// Connects to the first origin that can be reached and `greet`ed; waits for a place if all are full.
pub(super) async fn reach<T>(
    origins: &Origins,
    account: &Account,
    client: &TcpStream,
    edge_port: u16,
    greet: impl AsyncFn(TcpStream) -> Result<T, Refusal>,
) -> Result<Reached<T>, Unreached> {
    let mut status = origins.status_of_none();
    let mut attempts = origins.attempts(account.client.ip());
    loop {
        // Nobody overtakes those who wait.
        let has_to_wait = attempts.may_go_on() && origins.has_queue();
        let free = if has_to_wait { None } else { attempts.next() };
        let held = match free {
            Some(held) => held,
            None if has_to_wait || attempts.are_full() => {
                // Apart, so that who need not wait stays small.
                Box::pin(queue::wait(origins, &mut attempts, account, client)).await?
            }
            None => return Err(Unreached::Origin(status)),
        };
        let address = held.address(account.app().ports, edge_port);
        let (began, limit) = (Instant::now(), account.app().timeouts.connect);
        let from = origins.outgoing(account.client.ip(), address.ip());
        match timeout(limit, connect(address, from)).await {
            Ok(Ok(stream)) => {
                let after = began.elapsed();
                match greet(stream).await {
                    Ok(origin) => {
                        held.reached(Some(after));
                        return Ok(Reached {
                            origin,
                            address,
                            held,
                        });
                    }
                    Err(Refusal::OfOrigin(refused)) => status = refused,
                    Err(Refusal::OfClient(refused)) => return Err(Unreached::Origin(refused)),
                }
            }
            Ok(Err(error)) => status = connect_status(&error),
            Err(_elapsed) => status = Status::ORIGIN_CONNECT_TIMED_OUT,
        }
        log::debug!(
            "{}: origin {address}: status {}",
            account.app().name,
            status.0
        );
        if status != Status::INTERNAL {
            held.failed();
        }
    }
}

/// A connection to an origin.
pub(super) async fn connect(address: SocketAddr, from: Outgoing) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket::prepare_stream(&socket)?;
    from.bind(&socket)?;
    socket.connect(address).await
}

fn connect_status(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Status::ORIGIN_REFUSED,
        Some(libc::ETIMEDOUT) => Status::ORIGIN_CONNECT_TIMED_OUT,
        Some(libc::ENETUNREACH) => Status::ORIGIN_NETWORK_UNREACHABLE,
        _ if socket::is_short_of_something(error) => Status::INTERNAL,
        _ => Status::ORIGIN_CONNECT_ERROR,
    }
}

/// What the origin gets before the first byte of the client.
pub(super) fn header(client: &TcpStream, edge: SocketAddr, account: &Account) -> Option<Header> {
    let ends = || Ends {
        client: account.client,
        // The listener may be bound to the wildcard.
        edge: client.local_addr().unwrap_or(edge),
    };
    match account.app().proxy_protocol {
        ProxyProtocol::Off | ProxyProtocol::Simple => None,
        ProxyProtocol::V1 => Some(encode_v1(&ends())),
        ProxyProtocol::V2 => Some(encode_v2(&ends(), Transport::Tcp)),
    }
}

pub(super) fn note_round_trips(client: &TcpStream, origin: &TcpStream, account: &Account) {
    if account.wants_round_trips() {
        account.set_round_trips(RoundTrips {
            client: socket::round_trip(client),
            origin: socket::round_trip(origin),
        });
    }
}

pub(super) fn status(end: &End) -> Status {
    match end {
        End::Closed => Status::CLOSED,
        End::Idle {
            owing: Side::Client,
        } => Status::CLIENT_TIMED_OUT,
        End::Idle {
            owing: Side::Origin,
        } => Status::ORIGIN_TIMED_OUT,
        End::Failed {
            side: Side::Client,
            error,
        } => match error.raw_os_error() {
            Some(libc::ECONNRESET) => Status::CLIENT_RESET,
            Some(libc::ETIMEDOUT) => Status::CLIENT_TIMED_OUT,
            Some(libc::ECONNREFUSED) => Status::CLIENT_REFUSED,
            Some(libc::EHOSTUNREACH) => Status::CLIENT_UNREACHABLE,
            Some(libc::EPIPE) => Status::CLIENT_BROKEN_PIPE,
            _ => Status::UNKNOWN,
        },
        End::Failed {
            side: Side::Origin,
            error,
        } => match error.raw_os_error() {
            Some(libc::ECONNRESET) => Status::ORIGIN_RESET,
            Some(libc::ETIMEDOUT) => Status::ORIGIN_TIMED_OUT,
            Some(libc::ECONNREFUSED) => Status::ORIGIN_IO_REFUSED,
            Some(libc::EHOSTUNREACH) => Status::ORIGIN_UNREACHABLE,
            Some(libc::EPIPE) => Status::ORIGIN_BROKEN_PIPE,
            _ => Status::ORIGIN_UNKNOWN_ERROR,
        },
    }
}

#[cfg(test)]
mod tests;
