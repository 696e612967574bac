//! As many bytes as go through.

use std::{
    io::{self, Write},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr, TcpStream},
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::{Job, Load, Span, connect};

/// Sends to a sink, or receives from a source, over several connections at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bulk {
    /// A [`Sink`](super::Server::Sink) for an upload, a [`Source`](super::Server::Source) for a
    /// download.
    pub to: SocketAddr,
    pub direction: Direction,
    pub flows: usize,
    pub span: Span,
}

/// As the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Upload,
    Download,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BulkReport {
    /// Of payload, while it counted.
    pub bits_per_second: f64,
    /// Payload from the first byte to the last, the warm-up included.
    pub total_bytes: u64,
}

impl From<Bulk> for Job {
    fn from(load: Bulk) -> Self {
        Self::Bulk(load)
    }
}

impl Load for Bulk {
    type Report = BulkReport;

    fn run(&self) -> Result<BulkReport> {
        let streams: Vec<_> = (0..self.flows)
            .map(|_| connect(self.to))
            .collect::<Result<_>>()?;
        let transfer = Transfer::default();
        thread::scope(|scope| {
            let flows: Vec<_> = streams
                .iter()
                .map(|stream| scope.spawn(|| transfer.run(stream, self.direction)))
                .collect();
            let bits_per_second = transfer.measure(self.span);
            transfer.end(&streams);
            for flow in flows {
                flow.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            }
            Ok(BulkReport {
                bits_per_second,
                total_bytes: transfer.bytes.load(Relaxed),
            })
        })
    }
}

/// What the flows of one run share.
#[derive(Default)]
struct Transfer {
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Transfer {
    /// Moves bytes until [`end`](Self::end).
    fn run(&self, stream: &TcpStream, direction: Direction) -> io::Result<()> {
        let mut flow = stream;
        let payload = vec![0x5a; CHUNK];
        loop {
            let moved = match direction {
                Direction::Upload => flow.write(&payload),
                Direction::Download => discard(stream),
            };
            match moved {
                Ok(bytes) if bytes > 0 => self.bytes.fetch_add(bytes as u64, Relaxed),
                _ if self.ended.load(Relaxed) => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            };
        }
    }

    /// Bits per second. Buffers on the way are as full at the end of the measurement as at its
    /// beginning, so that what this end moves is what goes through.
    fn measure(&self, span: Span) -> f64 {
        thread::sleep(Duration::from_secs_f64(span.warm_up));
        let (begin, before) = (Instant::now(), self.bytes.load(Relaxed));
        thread::sleep(Duration::from_secs_f64(span.measured));
        let moved = self.bytes.load(Relaxed) - before;
        moved as f64 * 8.0 / begin.elapsed().as_secs_f64()
    }

    fn end(&self, streams: &[TcpStream]) {
        self.ended.store(true, Relaxed);
        for stream in streams {
            // A connection that broke before says so in its flow.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

pub(super) const CHUNK: usize = 256 * 1024;

/// Takes what has arrived without copying it to user space (tcp(7), `MSG_TRUNC`): the processor is
/// for the proxy that is measured.
pub(super) fn discard(stream: &TcpStream) -> io::Result<usize> {
    let mut untouched = [MaybeUninit::uninit(); CHUNK];
    SockRef::from(stream).recv_with_flags(&mut untouched, libc::MSG_TRUNC)
}
