//! Load: servers that stand for origins, and clients that measure whatever is between.
//!
//! Each kind of load is a plain value that says what to do, such as [`Bulk`] or [`PingPong`], and
//! has a report of its own. A test runs it in its own process by [`Load::run`]; a bench hands it as
//! a [`Job`] to the program `spectrum-load`, in a network namespace of its choice.

mod batch;
mod bulk;
mod check;
mod connect;
mod idle;
mod ping_pong;
mod poller;
mod samples;
mod serve;
mod udp;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use bulk::{Bulk, BulkReport, Direction};
pub use check::{Check, CheckReport};
pub use connect::ConnectRate;
pub use idle::{Idle, IdleReport};
pub use ping_pong::PingPong;
pub use samples::RoundTrips;
pub use serve::{Serve, Server};
pub use udp::UdpPingPong;

/// Something to do to a server, and to measure.
pub trait Load: Into<Job> {
    type Report: Serialize + DeserializeOwned;

    /// Does it, in this process and network namespace.
    ///
    /// # Errors
    /// When a connection is refused, cut or silent, or a byte is not what it should be: a load that
    /// was not served is no measurement.
    fn run(&self) -> Result<Self::Report>;
}

/// What the program `spectrum-load` takes as its argument, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    Serve(Serve),
    Check(Check),
    Bulk(Bulk),
    PingPong(PingPong),
    ConnectRate(ConnectRate),
    Idle(Idle),
    UdpPingPong(UdpPingPong),
}

impl Job {
    /// Does the job and gives its report as JSON; [`Job::Serve`] ends only by an error.
    ///
    /// # Errors
    /// As [`Load::run`] and [`Serve::run`].
    pub fn run(&self) -> Result<serde_json::Value> {
        match self {
            Self::Serve(serve) => match serve.run()? {},
            Self::Check(load) => report(load),
            Self::Bulk(load) => report(load),
            Self::PingPong(load) => report(load),
            Self::ConnectRate(load) => report(load),
            Self::Idle(load) => report(load),
            Self::UdpPingPong(load) => report(load),
        }
    }
}

fn report(load: &impl Load) -> Result<serde_json::Value> {
    Ok(serde_json::to_value(load.run()?)?)
}

/// How long a load runs, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Span {
    /// Before the measurement begins.
    pub warm_up: f64,
    pub measured: f64,
}

impl Span {
    fn begin(self) -> Window {
        let from = Instant::now() + Duration::from_secs_f64(self.warm_up);
        Window {
            from,
            to: from + Duration::from_secs_f64(self.measured),
        }
    }
}

/// The time between two instants, in which things count.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    fn holds(&self, instant: Instant) -> bool {
        (self.from..self.to).contains(&instant)
    }

    fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// How much of it is still to come, the time before it included.
    fn left(&self) -> Duration {
        self.to.saturating_duration_since(Instant::now())
    }

    fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }
}

/// Lets this process, and those that it starts, open as many files as the system permits at all;
/// returns how many that is.
///
/// # Errors
/// Those of `getrlimit` and `setrlimit`.
pub fn raise_file_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How long a server may be silent before a load gives up on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection whose reads and writes fail after [`PATIENCE`].
fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)
        .with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{
        net::{Ipv4Addr, UdpSocket},
        process, thread,
    };

    use super::*;

    const BRIEF: Span = Span {
        warm_up: 0.05,
        measured: 0.2,
    };

    /// Starts a server on a loopback address that only this process uses.
    fn start(kind: fn(SocketAddr) -> Server) -> SocketAddr {
        let [.., high, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, high, low, 1);
        let free = std::net::TcpListener::bind((ip, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let servers = vec![kind(address)];
        thread::spawn(move || Serve { servers }.run());
        address
    }

    fn start_tcp(kind: fn(SocketAddr) -> Server) -> SocketAddr {
        let address = start(kind);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "no server on {address}");
            thread::yield_now();
        }
        address
    }

    #[test]
    fn the_echo_is_exact_even_when_the_client_is_slower_than_the_server() {
        let to = start_tcp(Server::Echo);
        let bytes = 20_000_000;
        assert_eq!(Check { to, bytes }.run().unwrap().bytes, bytes);
    }

    #[test]
    fn requests_on_many_connections_are_all_answered() {
        let load = PingPong {
            to: start_tcp(Server::Echo),
            connections: 100,
            size: 64,
            span: BRIEF,
        };
        let trips = load.run().unwrap();
        assert!(trips.per_second > 0.0 && trips.p50_us <= trips.p99_us);
    }

    #[test]
    fn new_connections_are_counted() {
        let load = ConnectRate {
            to: start_tcp(Server::Echo),
            concurrency: 4,
            span: BRIEF,
        };
        assert!(load.run().unwrap().per_second > 0.0);
    }

    #[test]
    fn bulk_flows_both_ways() {
        for (kind, direction) in [
            (Server::Sink as fn(SocketAddr) -> Server, Direction::Upload),
            (Server::Source, Direction::Download),
        ] {
            let load = Bulk {
                to: start_tcp(kind),
                direction,
                flows: 2,
                span: BRIEF,
            };
            let report = load.run().unwrap();
            let measured = report.bits_per_second / 8.0 * BRIEF.measured;
            assert!(measured > 0.0 && report.total_bytes as f64 >= measured);
        }
    }

    fn start_udp() -> SocketAddr {
        let address = start(Server::UdpEcho);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Duration::from_millis(20);
        client.set_read_timeout(Some(patience)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while client.send_to(b"?", address).is_err() || client.recv(&mut [0]).is_err() {
            assert!(Instant::now() < deadline, "no server on {address}");
        }
        address
    }

    #[test]
    fn datagrams_come_back() {
        let load = UdpPingPong {
            to: start_udp(),
            flows: 3,
            window: 5,
            size: 64,
            span: BRIEF,
        };
        assert!(load.run().unwrap().per_second > 0.0);
    }

    #[test]
    fn a_load_that_nobody_serves_fails() {
        let nobody = start_tcp(Server::Sink);
        let load = PingPong {
            to: nobody,
            connections: 1,
            size: 64,
            span: BRIEF,
        };
        let error = load.run().unwrap_err().to_string();
        assert!(error.contains("nothing was answered"), "{error}");
    }
}
