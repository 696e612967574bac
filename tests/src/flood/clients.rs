//! Those who must be served: clients that connect anew, and players whose datagrams the service
//! knows from before the attack.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    client::{self, Served},
    origin::port,
    topology::{Host, address::EDGE},
};

/// Clients that connect at the same time.
const CONNECTORS: usize = 4;
/// Between two connections of one of them.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);
/// As long as people wait, and no longer than a SYN and two more take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// Players, each with a socket of its own.
const PLAYERS: usize = 20;
/// Between two datagrams of one of them: a game's tick.
const TICK: Duration = Duration::from_millis(20);
/// An answer that comes later is of no use to a game.
const LATE: Duration = Duration::from_millis(200);

/// How the clients have fared.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub connections: Served,
    /// How long each connection that was served took to open.
    pub latencies: Vec<Duration>,
    pub datagrams: Served,
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (mine, theirs) in [
            (&mut self.connections, other.connections),
            (&mut self.datagrams, other.datagrams),
        ] {
            mine.attempts += theirs.attempts;
            mine.successes += theirs.successes;
        }
        self.latencies.extend(other.latencies);
    }
}

/// The players, known to the service.
#[derive(Debug)]
pub struct Clients<'lab> {
    host: &'lab Host,
    players: Vec<UdpSocket>,
}

impl<'lab> Clients<'lab> {
    /// Lets the players join and play for a while, so that they are known.
    ///
    /// # Errors
    /// No socket; or a player is not served even though nobody attacks.
    pub fn join(host: &'lab Host, acquaintance: Duration) -> Result<Self> {
        let join = |_| -> Result<_> {
            let socket = client::udp(host, None, (EDGE, port::ECHO).into())?;
            socket.set_read_timeout(Some(LATE))?;
            Ok(socket)
        };
        let clients = Self {
            host,
            players: (0..PLAYERS).map(join).collect::<Result<_>>()?,
        };
        let tally = clients.run(acquaintance)?;
        let served = tally.datagrams.successes.min(tally.connections.successes);
        ensure!(served > 0, "nobody was served on a quiet day: {tally:?}");
        Ok(clients)
    }

    /// Lets all of them be clients for a while.
    ///
    /// # Errors
    /// No thread.
    pub fn run(&self, span: Duration) -> Result<Tally> {
        let stop = &AtomicBool::new(false);
        let edge = SocketAddr::from((EDGE, port::ECHO));
        thread::scope(|scope| {
            let connectors = (0..CONNECTORS)
                .map(|_| spawn(scope, "connector", move || connect(self.host, edge, stop)));
            let players = self
                .players
                .iter()
                .map(|socket| spawn(scope, "player", move || play(socket, stop)));
            let threads: Vec<_> = connectors.chain(players).collect::<io::Result<_>>()?;
            thread::sleep(span);
            stop.store(true, Ordering::Relaxed);
            let mut tally = Tally::default();
            for thread in threads {
                tally.add(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            Ok(tally)
        })
    }
}

fn spawn<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    name: &str,
    work: impl FnOnce() -> Tally + Send + 'scope,
) -> io::Result<thread::ScopedJoinHandle<'scope, Tally>> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn_scoped(scope, work)
}

/// Connects, is answered, and leaves; over and over.
fn connect(host: &Host, edge: SocketAddr, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        tally.connections.attempts += 1;
        let Ok(stream) = client::connect(host, None, edge, CONNECT_PATIENCE) else {
            continue;
        };
        let took = begun.elapsed();
        if client::echo_bytes(&stream, b"hello").is_ok() {
            tally.connections.successes += 1;
            tally.latencies.push(took);
        }
        thread::sleep(CONNECT_INTERVAL.saturating_sub(begun.elapsed()));
    }
    tally
}

/// Sends a datagram and waits for its echo; over and over.
fn play(socket: &UdpSocket, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        tally.datagrams.attempts += 1;
        if echo(socket, number).is_ok() {
            tally.datagrams.successes += 1;
        }
        thread::sleep(TICK.saturating_sub(begun.elapsed()));
    }
    tally
}

/// Waits for the echo of this very datagram: one that was late before does not count.
fn echo(socket: &UdpSocket, number: u64) -> io::Result<()> {
    // As long as what a game tells its server.
    let mut payload = [0; 64];
    for (place, byte) in payload.iter_mut().zip(number.to_be_bytes()) {
        *place = byte;
    }
    socket.send(&payload)?;
    let mut answer = [0; 65];
    loop {
        let length = socket.recv(&mut answer)?;
        if answer.get(..length) == Some(&payload) {
            return Ok(());
        }
    }
}
