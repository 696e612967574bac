//! Requests and answers over TCP: the next request leaves when the answer is there.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    Job, Load, RoundTrips, Span, connect,
    poller::{Events, Interest, Poller},
    samples::Samples,
};

/// One message in flight on each of a number of connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PingPong {
    /// A [`Server::Echo`](super::Server::Echo).
    pub to: SocketAddr,
    pub connections: usize,
    /// Of a message, in bytes.
    pub size: usize,
    pub span: Span,
}

impl From<PingPong> for Job {
    fn from(load: PingPong) -> Self {
        Self::PingPong(load)
    }
}

impl Load for PingPong {
    type Report = RoundTrips;

    fn run(&self) -> Result<RoundTrips> {
        let poller = Poller::new()?;
        let mut players = (0..self.connections)
            .map(|place| Player::join(self.to, &poller, place))
            .collect::<Result<Vec<_>>>()?;
        let ping = vec![7; self.size];
        let mut pong = vec![0; self.size];
        let mut samples = Samples::default();
        let mut events = Events::new();
        let window = self.span.begin();
        for player in &mut players {
            player.serve(&ping)?;
        }
        while !window.is_over() {
            for place in poller.wait(&mut events, Some(window.left()))? {
                let player = players.get_mut(place).context("unknown event")?;
                let Some(latency) = player.receive(&mut pong)? else {
                    continue;
                };
                if window.holds(player.served) {
                    samples.record(latency);
                }
                player.serve(&ping)?;
            }
        }
        samples.report(&window)
    }
}

struct Player {
    stream: TcpStream,
    /// When the message in flight left.
    served: Instant,
    /// How much of it has come back.
    received: usize,
}

impl Player {
    fn join(to: SocketAddr, poller: &Poller, place: usize) -> Result<Self> {
        let stream = connect(to)?;
        stream.set_nonblocking(true)?;
        poller.watch(&stream, place, Interest::Read)?;
        Ok(Self {
            stream,
            served: Instant::now(),
            received: 0,
        })
    }

    fn serve(&mut self, ping: &[u8]) -> Result<()> {
        self.served = Instant::now();
        self.received = 0;
        self.stream.write_all(ping).context("cannot send")
    }

    /// The latency, once the whole message is back.
    fn receive(&mut self, pong: &mut [u8]) -> Result<Option<Duration>> {
        let size = pong.len();
        let rest = pong.get_mut(self.received..).unwrap_or_default();
        match self.stream.read(rest) {
            Ok(0) => bail!("a connection was closed"),
            Ok(bytes) => self.received += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("a connection was cut"),
        }
        Ok((self.received == size).then(|| self.served.elapsed()))
    }
}
