//! Origins of our own: echoes, and an HTTP server for machines without one.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use socket2::SockRef;

use crate::topology::Host;

/// How long a server may take to notice that it shall end.
const TICK: Duration = Duration::from_millis(50);

/// A server on threads of this process; ends when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(name: &str, serve: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let builder = thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || serve(&seen))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends every datagram back.
///
/// # Errors
/// The port is taken.
pub fn udp_echo(host: &Host, port: u16) -> Result<Server> {
    udp_repeater(host, port, 1)
}

/// Sends every datagram back, several times.
///
/// # Errors
/// The port is taken.
pub fn udp_repeater(host: &Host, port: u16, times: usize) -> Result<Server> {
    udp(host, port, move |socket, datagram, client| {
        (0..times).try_for_each(|_| socket.send_to(datagram, client).map(drop))
    })
}

/// One thread for all clients.
fn udp(
    host: &Host,
    port: u16,
    answer: impl Fn(&UdpSocket, &[u8], SocketAddr) -> io::Result<()> + Send + 'static,
) -> Result<Server> {
    let socket = host.namespace.run(|| UdpSocket::bind(any(port)))?;
    let socket = socket.with_context(|| format!("binding udp/{port}"))?;
    // A burst of a thousand clients must not be lost here.
    SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(TICK))?;
    Server::start("udp origin", move |stop| {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            // A client that is gone does not concern the others.
            let _ = answer(&socket, buffer.get(..length).unwrap_or_default(), client);
        }
    })
}

/// Sends every byte back, and closes its half when the client has closed its own.
///
/// # Errors
/// The port is taken.
pub fn tcp_echo(host: &Host, port: u16) -> Result<Server> {
    tcp(host, port, |stream| {
        io::copy(&mut &*stream, &mut &*stream).map(drop)
    })
}

/// Says its name to everyone who connects, and then sends every byte back.
///
/// # Errors
/// The port is taken.
pub fn tcp_named(host: &Host, port: u16, name: &'static str) -> Result<Server> {
    tcp(host, port, move |stream| {
        (&*stream).write_all(format!("{name}\n").as_bytes())?;
        io::copy(&mut &*stream, &mut &*stream).map(drop)
    })
}

/// Answers every datagram with its name.
///
/// # Errors
/// The port is taken.
pub fn udp_named(host: &Host, port: u16, name: &'static str) -> Result<Server> {
    udp(host, port, move |socket, _, client| {
        socket.send_to(name.as_bytes(), client).map(drop)
    })
}

/// Answers every GET with the same short page.
///
/// # Errors
/// The port is taken.
pub fn http(host: &Host, port: u16) -> Result<Server> {
    tcp(host, port, |stream| {
        let mut requests = BufReader::new(stream).lines();
        while let Some(_request) = requests.next().transpose()? {
            let headers = requests.by_ref().map_while(Result::ok);
            headers.take_while(|line| !line.is_empty()).for_each(drop);
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nserved\n")?;
        }
        Ok(())
    })
}

/// A thread for each connection, which ends with the connection or with the server.
fn tcp(
    host: &Host,
    port: u16,
    handle: impl Fn(&TcpStream) -> io::Result<()> + Copy + Send + Sync + 'static,
) -> Result<Server> {
    let listener = host.namespace.run(|| TcpListener::bind(any(port)))?;
    let listener = listener.with_context(|| format!("binding tcp/{port}"))?;
    // On Linux this bounds `accept`, and the streams inherit it.
    SockRef::from(&listener).set_read_timeout(Some(TICK))?;
    Server::start("tcp origin", move |stop| {
        let streams = Mutex::new(Vec::<Weak<TcpStream>>::new());
        let streams = || streams.lock().unwrap_or_else(PoisonError::into_inner);
        thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    continue;
                };
                if stream.set_read_timeout(None).is_err() {
                    continue;
                }
                let stream = Arc::new(stream);
                let mut open = streams();
                open.retain(|stream| stream.strong_count() > 0);
                open.push(Arc::downgrade(&stream));
                // An error is the client's end of the connection: the server goes on.
                scope.spawn(move || handle(&stream));
            }
            for stream in streams().iter().filter_map(Weak::upgrade) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    })
}

/// Both families.
fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}
