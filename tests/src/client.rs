//! Legitimate clients: small ones that say exactly what went wrong, and probes that count.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::topology::Host;

mod probe;

pub use probe::{Probe, Served};

/// How long a client waits for a connection, or an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a TCP connection from `host`, from its address `source` if given.
///
/// # Errors
/// As the kernel says: `ConnectionRefused` (somebody answered with a reset), `TimedOut` (nobody
/// answered within `patience`).
pub fn connect(
    host: &Host,
    source: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let connect = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&to.into(), patience)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    host.namespace.run(connect).map_err(io::Error::other)?
}

/// A UDP socket on `host` that talks to `to`, from its address `source` if given.
///
/// # Errors
/// No such address.
pub fn udp(host: &Host, source: Option<IpAddr>, to: SocketAddr) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let source = source.map_or_else(|| any.parse(), Ok)?;
    let bind = || {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        io::Result::Ok(socket)
    };
    Ok(host.namespace.run(bind)??)
}

/// Sends `payload` and waits for it to come back.
///
/// # Errors
/// It does not come back, or changed.
pub fn echo_datagram(socket: &UdpSocket, payload: &[u8]) -> Result<()> {
    socket.send(payload)?;
    let mut answer = vec![0; payload.len() + 1];
    let length = socket.recv(&mut answer).context("waiting for the echo")?;
    ensure!(answer.get(..length) == Some(payload), "the echo differs");
    Ok(())
}

/// Sends `payload` on a TCP connection and waits for it to come back.
///
/// # Errors
/// As [`echo_datagram`].
pub fn echo_bytes(mut stream: &TcpStream, payload: &[u8]) -> Result<()> {
    stream.write_all(payload)?;
    let mut answer = vec![0; payload.len()];
    stream
        .read_exact(&mut answer)
        .context("waiting for the echo")?;
    ensure!(answer == payload, "the echo differs");
    Ok(())
}

/// Reads the line with which an SSH server greets.
///
/// # Errors
/// Another greeting, or none.
pub fn ssh_banner(stream: &TcpStream) -> Result<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(line.starts_with("SSH-2.0-"), "not an SSH server: {line:?}");
    Ok(line)
}

/// An HTTP/1.1 connection that is kept alive.
#[derive(Debug)]
pub struct Http {
    reader: BufReader<TcpStream>,
}

impl Http {
    /// # Errors
    /// The stream cannot be used.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// The body at `path`.
    ///
    /// # Errors
    /// A status other than 200, no `Content-Length`, or a connection that breaks.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.with_context(|| format!("{status}: no Content-Length"))?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            bail!("{path}: {status}");
        }
        Ok(body)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line)?;
        ensure!(read > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}
