//! One check: what is sent to an origin, and what has to come back.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use super::http;
use crate::{
    config::{App, Check, Exchange, Health, ProxyProtocol, SourceAddress, Transport},
    proxy::{
        proxy_protocol::{
            Ends, Header, SIMPLE_LENGTH, V1_LOCAL, encode_simple, encode_v2_local, parse_simple,
        },
        socket::{self, Outgoing},
        tcp,
    },
};

/// Of a TCP answer, what was expected has to be within the first bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
const LARGEST_DATAGRAM: usize = 64 * 1024;

/// How one origin is checked.
pub(super) struct Probe {
    check: Check,
    address: SocketAddr,
    /// An origin may take connections of some addresses only.
    from: Outgoing,
    /// The header that the origin wants, and that says that no client is behind this.
    header: ProxyProtocol,
}

/// Why a check has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broke(io::Error),
    #[error("no answer in {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("the answer ended without what was expected")]
    Ended,
    #[error("the answer begins with {LONGEST_ANSWER} bytes without what was expected")]
    TooLong,
    #[error("HTTP status {0}")]
    HttpStatus(u16),
    #[error("the answer is no HTTP")]
    NoHttp,
    /// The host is short of something; the origin is not to blame.
    #[error("{0}")]
    Ours(io::Error),
}

impl Probe {
    pub(super) fn new(app: &App, health: &Health, mut address: SocketAddr) -> Self {
        let is_app = health.port.is_none() && is_of(app.transport, &health.check);
        if let Some(port) = health.port {
            address.set_port(port);
        }
        Self {
            check: health.check.clone(),
            address,
            from: match &app.origins.source {
                SourceAddress::Pool(pool) => Outgoing::of_pool(pool, address.ip(), 0),
                SourceAddress::Route | SourceAddress::Client => Outgoing::Route,
            },
            header: if is_app {
                app.proxy_protocol
            } else {
                ProxyProtocol::Off
            },
        }
    }

    /// How long it took to reach the origin: to connect, or over UDP, to get the answer.
    pub(super) async fn run(&self) -> Result<Duration, Failure> {
        match &self.check {
            Check::Tcp(exchange) => {
                let (mut stream, took) = self.connect().await?;
                if !exchange.send.is_empty() {
                    let sent = stream.write_all(&exchange.send).await;
                    sent.map_err(Failure::Broke)?;
                }
                if !exchange.expect.is_empty() {
                    find(&mut stream, &exchange.expect).await?;
                }
                Ok(took)
            }
            Check::Http { path, host, status } => {
                let (mut stream, took) = self.connect().await?;
                let request = http::request(path, host);
                let sent = stream.write_all(request.as_bytes()).await;
                sent.map_err(Failure::Broke)?;
                match status_of(&mut stream).await? {
                    good if status.contains(&good) => Ok(took),
                    other => Err(Failure::HttpStatus(other)),
                }
            }
            Check::Udp(exchange) => self.ask(exchange).await,
        }
    }

    /// A connection on which the header has been sent.
    async fn connect(&self) -> Result<(TcpStream, Duration), Failure> {
        let began = Instant::now();
        let connected = tcp::connect(self.address, self.from).await;
        let mut stream = connected.map_err(or_ours(Failure::Connect))?;
        let took = began.elapsed();
        let header: &[u8] = match self.header {
            ProxyProtocol::V1 => V1_LOCAL,
            ProxyProtocol::V2 => &encode_v2_local(),
            ProxyProtocol::Off | ProxyProtocol::Simple => &[],
        };
        if !header.is_empty() {
            stream.write_all(header).await.map_err(Failure::Broke)?;
        }
        Ok((stream, took))
    }

    /// Sends a datagram, and waits for one that has what was expected.
    async fn ask(&self, Exchange { send, expect }: &Exchange) -> Result<Duration, Failure> {
        let began = Instant::now();
        let socket = socket::connect_udp(self.address, self.from).and_then(UdpSocket::from_std);
        let socket = socket.map_err(or_ours(Failure::Connect))?;
        let header = self.datagram_header(&socket).map_err(Failure::Broke)?;
        let datagram = [header.as_deref().unwrap_or_default(), send].concat();
        let sent = socket.send(&datagram).await;
        sent.map_err(or_ours(Failure::Broke))?;
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(Failure::Broke)?;
            let answer = buffer.get(..length).unwrap_or_default();
            let payload = match (self.header, &header) {
                (ProxyProtocol::Simple, Some(header)) => {
                    // As for a client: an answer to another is none.
                    if parse_simple(answer) != parse_simple(header) {
                        continue;
                    }
                    answer.get(SIMPLE_LENGTH..).unwrap_or_default()
                }
                _ => answer,
            };
            if contains(payload, expect) {
                return Ok(began.elapsed());
            }
        }
    }

    fn datagram_header(&self, socket: &UdpSocket) -> io::Result<Option<Header>> {
        Ok(match self.header {
            ProxyProtocol::Off | ProxyProtocol::V1 => None,
            ProxyProtocol::V2 => Some(encode_v2_local()),
            ProxyProtocol::Simple => {
                let own = socket.local_addr()?;
                Some(encode_simple(&Ends {
                    client: own,
                    edge: own,
                }))
            }
        })
    }
}

/// Whether the check speaks the app's own transport, to its own port.
fn is_of(transport: Transport, check: &Check) -> bool {
    match check {
        Check::Tcp(_) | Check::Http { .. } => transport == Transport::Tcp,
        Check::Udp(_) => transport == Transport::Udp,
    }
}

/// What is the fault of this host is not one of the origin.
fn or_ours(failure: fn(io::Error) -> Failure) -> impl Fn(io::Error) -> Failure {
    move |error| {
        if socket::is_short_of_something(&error) {
            Failure::Ours(error)
        } else {
            failure(error)
        }
    }
}

/// Reads until `wanted` has come.
async fn find(stream: &mut TcpStream, wanted: &[u8]) -> Result<(), Failure> {
    let mut answer = Vec::new();
    while !contains(&answer, wanted) {
        read_more(stream, &mut answer).await?;
    }
    Ok(())
}

async fn status_of(stream: &mut TcpStream) -> Result<u16, Failure> {
    let mut answer = Vec::new();
    loop {
        read_more(stream, &mut answer).await?;
        if let Some(status) = http::status(&answer) {
            return status.ok_or(Failure::NoHttp);
        }
    }
}

async fn read_more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Failure> {
    if answer.len() >= LONGEST_ANSWER {
        return Err(Failure::TooLong);
    }
    let read = stream.read_buf(answer).await.map_err(Failure::Broke)?;
    if read == 0 {
        return Err(Failure::Ended);
    }
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}
