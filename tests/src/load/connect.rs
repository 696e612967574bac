//! New connections: connect, one byte there and back, close.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::{
    Job, Load, RoundTrips, Span,
    poller::{Events, Interest, Poller},
    samples::Samples,
};

/// Keeps a number of connections in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectRate {
    /// A [`Server::Echo`](super::Server::Echo).
    pub to: SocketAddr,
    /// Connections in the making at any time.
    pub concurrency: usize,
    pub span: Span,
}

impl From<ConnectRate> for Job {
    fn from(load: ConnectRate) -> Self {
        Self::ConnectRate(load)
    }
}

impl Load for ConnectRate {
    type Report = RoundTrips;

    fn run(&self) -> Result<RoundTrips> {
        let poller = Poller::new()?;
        let mut attempts = (0..self.concurrency)
            .map(|place| Attempt::begin(self.to, &poller, place))
            .collect::<Result<Vec<_>>>()?;
        let mut samples = Samples::default();
        let mut events = Events::new();
        let window = self.span.begin();
        while !window.is_over() {
            for place in poller.wait(&mut events, Some(window.left()))? {
                let attempt = attempts.get_mut(place).context("unknown event")?;
                if attempt.go_on(&poller, place)? == Progress::Pending {
                    continue;
                }
                if window.holds(attempt.begun) {
                    samples.record(attempt.begun.elapsed());
                }
                *attempt = Attempt::begin(self.to, &poller, place)?;
            }
        }
        samples.report(&window)
    }
}

struct Attempt {
    stream: TcpStream,
    begun: Instant,
    sent: bool,
}

#[derive(PartialEq, Eq)]
enum Progress {
    Pending,
    Done,
}

impl Attempt {
    fn begin(to: SocketAddr, poller: &Poller, place: usize) -> Result<Self> {
        let begun = Instant::now();
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {to}")),
        }
        poller.watch(&socket, place, Interest::Write)?;
        Ok(Self {
            stream: socket.into(),
            begun,
            sent: false,
        })
    }

    /// Sends the byte once connected, and is done once it is back.
    fn go_on(&mut self, poller: &Poller, place: usize) -> Result<Progress> {
        if !self.sent {
            if let Some(error) = self.stream.take_error()? {
                return Err(error).context("a connection was not made");
            }
            self.stream.write_all(b"?")?;
            self.sent = true;
            poller.change(&self.stream, place, Interest::Read)?;
            return Ok(Progress::Pending);
        }
        match self.stream.read(&mut [0]) {
            Ok(1) => Ok(Progress::Done),
            Ok(_) => bail!("a new connection was closed"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Pending),
            Err(error) => Err(error).context("a new connection was cut"),
        }
    }
}
