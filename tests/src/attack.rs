//! Attackers: raw frames at a bounded rate, and a bounded number of them.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{MsgFlags, MultiHeaders, sendmmsg},
};
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use crate::{
    packet::{self, Flags, Fragment, Path},
    topology::{ETH0, Host},
};

/// Frames per system call.
const BATCH: usize = 64;

/// How far a flood that was held up may catch up.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The amplifiers of a reflection attack: DNS, NTP, SSDP, CLDAP, memcached.
pub const REFLECTORS: [u16; 5] = [53, 123, 1900, 389, 11211];

/// An attack: frames, sent in turn and over again.
#[derive(Clone, Debug)]
pub struct Flood {
    pub frames: Vec<Vec<u8>>,
    pub per_second: u32,
    /// The attack ends after so many frames.
    pub count: u64,
}

impl Flood {
    /// Sends all of it from `host`'s only interface.
    ///
    /// # Errors
    /// The interface takes no frames.
    pub fn run(self, host: &Host) -> Result<u64> {
        self.start(host)?.join()
    }

    /// Starts sending.
    ///
    /// # Errors
    /// No raw socket.
    pub fn start(self, host: &Host) -> Result<Running> {
        let socket = host.namespace.run(|| raw_socket(ETH0))?;
        let socket = socket.context("opening a raw socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let builder = thread::Builder::new().name("attacker".to_owned());
            builder.spawn(move || self.send(&socket, &stop, &sent))?
        };
        Ok(Running {
            stop,
            sent,
            thread: Some(thread),
        })
    }

    fn send(&self, socket: &Socket, stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
        let slices: Vec<_> = self
            .frames
            .iter()
            .map(|frame| [IoSlice::new(frame)])
            .collect();
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        let mut pace = Pace::new(self.per_second);
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            let left = self.count - sent.load(Ordering::Relaxed);
            if left == 0 || slices.is_empty() {
                break;
            }
            let batch = pace.wait().min(left).min(BATCH as u64);
            let batch = usize::try_from(batch).unwrap_or(BATCH);
            let batch = slices.iter().skip(next).take(batch);
            let accepted = match sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                batch,
                [None; BATCH],
                [],
                MsgFlags::empty(),
            ) {
                Ok(results) => results.count(),
                Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            pace.spent(accepted as u64);
            sent.fetch_add(accepted as u64, Ordering::Relaxed);
            next = (next + accepted) % slices.len();
        }
        Ok(())
    }
}

/// Says how many frames are due.
struct Pace {
    per_second: f64,
    due: f64,
    asked: Instant,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            due: 1.0,
            asked: Instant::now(),
        }
    }

    /// Sleeps until at least one frame is due, better a whole batch.
    fn wait(&mut self) -> u64 {
        self.accrue();
        if self.due < 1.0 {
            let batch = (BATCH as f64 - self.due) / self.per_second;
            let one = (1.0 - self.due) / self.per_second;
            thread::sleep(Duration::from_secs_f64(batch.min(0.002).max(one)));
            self.accrue();
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, small"
        )]
        let due = self.due.max(1.0) as u64;
        due
    }

    fn accrue(&mut self) {
        let now = Instant::now();
        let earned = (now - self.asked).as_secs_f64() * self.per_second;
        let most = (CATCH_UP.as_secs_f64() * self.per_second).max(1.0);
        self.due = (self.due + earned).min(most);
        self.asked = now;
    }

    fn spent(&mut self, frames: u64) {
        self.due -= frames as f64;
    }
}

/// An attack that goes on; it stops when dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Frames that have left the attacker.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the attack, and says how many frames there were.
    ///
    /// # Errors
    /// The interface took no frames.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(mut self) -> Result<u64> {
        if let Some(thread) = self.thread.take() {
            let result = thread.join().ok().context("the attacker panicked")?;
            result.context("sending frames")?;
        }
        Ok(self.sent())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that sends frames from `interface` of the calling thread's namespace, and receives none.
fn raw_socket(interface: &str) -> io::Result<Socket> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel's own constants"
    )]
    const FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;
    #[expect(clippy::cast_possible_truncation, reason = "20 bytes")]
    const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = if_nametoindex(interface)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for every kind of address.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = FAMILY;
    link.sll_ifindex = index.cast_signed();
    // SAFETY: the storage holds a `sockaddr_ll`, which has this length.
    socket.bind(&unsafe { SockAddr::new(storage, LENGTH) })?;
    Ok(socket)
}

/// The `count` addresses that begin at `first`.
pub fn sources(first: Ipv4Addr, count: u32) -> impl Iterator<Item = IpAddr> {
    let first = u32::from(first);
    (first..first.saturating_add(count)).map(|bits| Ipv4Addr::from(bits).into())
}

/// A SYN of each source, from ports that differ.
///
/// # Errors
/// A source of another family than `to`.
pub fn syns(
    path: Path,
    sources: impl Iterator<Item = IpAddr>,
    to: SocketAddr,
) -> Result<Vec<Vec<u8>>> {
    sources
        .zip((1024..=u16::MAX).cycle())
        .map(|(source, port)| packet::tcp(path, (source, port).into(), to, Flags::SYN))
        .collect()
}

/// What reflectors send to a victim: large answers, from their well-known ports.
///
/// # Errors
/// A source of another family than `to`.
pub fn reflections(
    path: Path,
    sources: impl Iterator<Item = IpAddr>,
    to: SocketAddr,
) -> Result<Vec<Vec<u8>>> {
    let answer = [0x81; 1000];
    sources
        .zip(REFLECTORS.into_iter().cycle())
        .map(|(source, port)| packet::udp(path, (source, port).into(), to, &answer))
        .collect()
}

/// Answers too large for one packet: the first and the last fragment from each source.
///
/// # Errors
/// A source of another family than `to`.
pub fn fragments(
    path: Path,
    sources: impl Iterator<Item = IpAddr>,
    to: SocketAddr,
) -> Result<Vec<Vec<u8>>> {
    let part = [0x81; 512];
    let mut frames = Vec::new();
    for source in sources {
        for fragment in [
            Fragment {
                offset: 0,
                more: true,
            },
            Fragment {
                offset: 65,
                more: false,
            },
        ] {
            let from = (source, 40_000).into();
            frames.push(packet::udp_fragment(path, from, to, fragment, &part)?);
        }
    }
    Ok(frames)
}
