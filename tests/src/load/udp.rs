//! Datagrams that come back: the next leaves when one is there, with a number of them in flight.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::{
    Job, Load, RoundTrips, Span, Window,
    batch::{BATCH, Batch, DATAGRAM},
    poller::{Events, Interest, Poller},
    samples::Samples,
};

/// Datagrams in flight on a number of flows. One flow with a window of one measures latency; many
/// measure how much goes through, without drowning what is between.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UdpPingPong {
    /// A [`Server::UdpEcho`](super::Server::UdpEcho).
    pub to: SocketAddr,
    pub flows: usize,
    /// Datagrams in flight on each flow, at most 64.
    pub window: usize,
    /// Of a datagram's payload in bytes, 8 to 2048: it carries the time at which it left.
    pub size: usize,
    pub span: Span,
}

impl From<UdpPingPong> for Job {
    fn from(load: UdpPingPong) -> Self {
        Self::UdpPingPong(load)
    }
}

impl Load for UdpPingPong {
    type Report = RoundTrips;

    fn run(&self) -> Result<RoundTrips> {
        ensure!((1..=BATCH).contains(&self.window), "a window is 1 to 64");
        ensure!((8..=DATAGRAM).contains(&self.size), "a size is 8 to 2048");
        let poller = Poller::new()?;
        let mut flows = (0..self.flows)
            .map(|place| Flow::open(self.to, &poller, place))
            .collect::<Result<Vec<_>>>()?;
        let mut game = Game::new(self);
        let mut events = Events::new();
        while !game.window.is_over() {
            for flow in flows.iter_mut().filter(|flow| flow.is_stuck()) {
                flow.in_flight = 0;
                game.serve(flow)?;
            }
            for place in poller.wait(&mut events, Some(LOST))? {
                let flow = flows.get_mut(place).context("unknown event")?;
                game.receive(flow)?;
                game.serve(flow)?;
            }
        }
        game.samples.report(&game.window)
    }
}

struct Flow {
    socket: UdpSocket,
    in_flight: usize,
    last_served: Instant,
}

impl Flow {
    fn open(to: SocketAddr, poller: &Poller, place: usize) -> Result<Self> {
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket)?;
        poller.watch(&socket, place, Interest::Read)?;
        Ok(Self {
            socket,
            in_flight: 0,
            last_served: Instant::now(),
        })
    }

    /// Whether it is this flow's turn to serve: nothing is in flight, or it is lost.
    fn is_stuck(&self) -> bool {
        self.in_flight == 0 || self.last_served.elapsed() > LOST
    }
}

/// A datagram that is not back after this time will not come back.
const LOST: Duration = Duration::from_millis(100);

struct Game {
    origin_of_time: Instant,
    window: Window,
    samples: Samples,
    in_flight_at_most: usize,
    payload: Vec<u8>,
    batch: Batch,
}

impl Game {
    fn new(load: &UdpPingPong) -> Self {
        Self {
            origin_of_time: Instant::now(),
            window: load.span.begin(),
            samples: Samples::default(),
            in_flight_at_most: load.window,
            payload: vec![5; load.size],
            batch: Batch::new(),
        }
    }

    /// Sends as many datagrams as may be in flight beside those that are.
    fn serve(&mut self, flow: &mut Flow) -> Result<()> {
        let now = self.origin_of_time.elapsed();
        if let Some(stamp) = self.payload.first_chunk_mut() {
            *stamp = u64::try_from(now.as_nanos())?.to_ne_bytes();
        }
        let room = self.in_flight_at_most.saturating_sub(flow.in_flight);
        self.batch.fill(room, &self.payload);
        flow.in_flight += match self.batch.send(&flow.socket) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("cannot send"),
        };
        flow.last_served = Instant::now();
        Ok(())
    }

    fn receive(&mut self, flow: &mut Flow) -> Result<()> {
        self.batch.receive(&flow.socket).context("cannot receive")?;
        for payload in self.batch.payloads() {
            flow.in_flight = flow.in_flight.saturating_sub(1);
            let Some(stamp) = payload.first_chunk() else {
                continue;
            };
            let left = self.origin_of_time + Duration::from_nanos(u64::from_ne_bytes(*stamp));
            if self.window.holds(left) {
                self.samples.record(left.elapsed());
            }
        }
        Ok(())
    }
}

/// Makes room for bursts, as far as the system permits.
pub(super) fn enlarge_buffers(socket: &UdpSocket) -> Result<()> {
    let socket = SockRef::from(socket);
    socket.set_recv_buffer_size(4 << 20)?;
    socket.set_send_buffer_size(4 << 20)?;
    Ok(())
}
