//! Origins: servers that echo, swallow or gush.

use std::{
    convert::Infallible,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::{
    Job,
    batch::Batch,
    bulk::{CHUNK, discard},
    poller::{Events, Interest, Poller},
};

/// Servers that run until the process ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serve {
    pub servers: Vec<Server>,
}

/// What a server does, and where.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// TCP: sends back what it receives.
    Echo(SocketAddr),
    /// TCP: receives, and says nothing.
    Sink(SocketAddr),
    /// TCP: sends until the connection is closed.
    Source(SocketAddr),
    /// UDP: sends each datagram back.
    UdpEcho(SocketAddr),
}

impl From<Serve> for Job {
    fn from(serve: Serve) -> Self {
        Self::Serve(serve)
    }
}

impl Serve {
    /// Serves until a listener fails.
    ///
    /// # Errors
    /// When an address cannot be bound, or a listener fails.
    pub fn run(&self) -> Result<Infallible> {
        let (failed, failure) = std::sync::mpsc::channel();
        for server in self.servers.iter().copied() {
            let failed = failed.clone();
            thread::spawn(move || {
                let Err(error) = server.run();
                // Nobody listens once another server has failed: the process is about to end.
                let _ = failed.send(error.context(format!("{server:?}")));
            });
        }
        Err(failure.recv().unwrap_or_else(|_| anyhow!("no servers")))
    }
}

impl Server {
    fn run(self) -> Result<Infallible> {
        match self {
            Self::Echo(address) => echo(&listen(address)?),
            Self::Sink(address) => each_connection(&listen(address)?, swallow),
            Self::Source(address) => each_connection(&listen(address)?, gush),
            Self::UdpEcho(address) => udp_echo(address),
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).context("cannot bind")?;
    // The clients of a bench come all at once.
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A thread for each connection: bulk comes on few.
fn each_connection(listener: &TcpListener, serve: fn(&TcpStream)) -> Result<Infallible> {
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || serve(&stream));
    }
}

fn swallow(stream: &TcpStream) {
    while discard(stream).is_ok_and(|bytes| bytes > 0) {}
}

fn gush(mut stream: &TcpStream) {
    let payload = vec![0xa5; CHUNK];
    while stream.write_all(&payload).is_ok() {}
}

/// One thread for all connections: there may be thousands.
fn echo(listener: &TcpListener) -> Result<Infallible> {
    listener.set_nonblocking(true)?;
    let poller = Poller::new()?;
    poller.watch(listener, LISTENER, Interest::Read)?;
    let mut echoes = Slots::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Events::new();
    loop {
        for place in poller.wait(&mut events, None)? {
            if place == LISTENER {
                accept_all(listener, &poller, &mut echoes)?;
            } else {
                turn(place, &poller, &mut echoes, &mut buffer)?;
            }
        }
    }
}

const LISTENER: usize = usize::MAX;

fn accept_all(listener: &TcpListener, poller: &Poller, echoes: &mut Slots<Echo>) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let (place, echo) = echoes.insert(Echo::new(stream));
                poller.watch(&echo.stream, place, Interest::Read)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The client was gone before it was its turn.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
}

fn turn(place: usize, poller: &Poller, echoes: &mut Slots<Echo>, buffer: &mut [u8]) -> Result<()> {
    let Some(echo) = echoes.get_mut(place) else {
        return Ok(());
    };
    let before = echo.waits_for();
    let open = echo.turn(buffer).unwrap_or(false);
    let after = echo.waits_for();
    if !open {
        echoes.remove(place);
    } else if after != before {
        poller.change(&echo.stream, place, after)?;
    }
    Ok(())
}

/// A connection, and what could not be sent back yet.
struct Echo {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Echo {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unsent: Vec::new(),
        }
    }

    /// Does what can be done without waiting; `false` once the client has closed.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent)?;
        while self.unsent.is_empty() {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            self.send(buffer.get(..received).unwrap_or_default())?;
            if received < buffer.len() {
                break;
            }
        }
        Ok(true)
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(bytes);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn waits_for(&self) -> Interest {
        if self.unsent.is_empty() {
            Interest::Read
        } else {
            Interest::Write
        }
    }
}

/// Values that keep their place; a free place is used again.
struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, value: T) -> (usize, &mut T) {
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        #[expect(clippy::indexing_slicing, reason = "the line above makes the place")]
        (place, self.places[place].insert(value))
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.places.get_mut(place)?.as_mut()
    }

    fn remove(&mut self, place: usize) {
        if self.places.get_mut(place).and_then(Option::take).is_some() {
            self.free.push(place);
        }
    }
}

fn udp_echo(address: SocketAddr) -> Result<Infallible> {
    let socket = UdpSocket::bind(address).context("cannot bind")?;
    super::udp::enlarge_buffers(&socket)?;
    let mut batch = Batch::new();
    loop {
        batch.receive(&socket)?;
        batch.send_back(&socket);
    }
}
