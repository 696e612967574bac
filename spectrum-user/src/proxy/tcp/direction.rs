//! One direction of a connection: copied through a shared buffer while little flows, spliced
//! through a pipe while much does.

use std::{
    io,
    net::Shutdown,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::{
    copy,
    pipe::{self, Lease, lease},
    relay::Side,
};
use crate::proxy::{
    account::Account,
    bandwidth::{Gate, Way},
};

/// Reads and writes before others get their turn.
const ROUNDS: usize = 16;

/// Reads of at least this size speak for bulk.
const LARGE: usize = 16 * 1024;
/// Reads below this size speak against it.
const SMALL: usize = 4 * 1024;
/// So many more of the one than of the other decide.
const CONVINCED: u8 = 8;

/// Never holds more than what one read gave, and reads only when it holds nothing: a receiver that
/// is slow slows its sender down.
#[derive(Debug)]
pub(super) struct Direction {
    gate: Gate,
    held: Held,
    bulk: Bulk,
    phase: Phase,
}

/// Bytes that were read and are not written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    /// All from the index on.
    Bytes(Box<[u8]>, usize),
    Pipe(Lease),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The source has closed; the FIN goes out behind the bytes that are held.
    Closing,
    Closed,
}

/// Bytes that moved.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct Progress {
    pub(in crate::proxy) read: usize,
    pub(in crate::proxy) written: usize,
}

/// Which side failed.
#[derive(Debug)]
pub(in crate::proxy) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl Failure {
    /// The side that failed, of a direction between these two.
    pub(in crate::proxy) fn at(self, from: Side, to: Side) -> (Side, io::Error) {
        match self {
            Self::Read(error) => (from, error),
            Self::Write(error) => (to, error),
        }
    }
}

impl Direction {
    /// `header` goes before what is read, and counts for nothing.
    pub(super) fn new(way: Way, header: Option<&[u8]>) -> Self {
        Self {
            gate: Gate::new(way),
            held: header.map_or(Held::Nothing, |header| Held::Bytes(header.into(), 0)),
            bulk: Bulk::default(),
            phase: Phase::default(),
        }
    }

    /// Moves what can be moved; ready when the FIN is passed on, or when a side has failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        account: &Account,
        mut moved: impl FnMut(Progress),
    ) -> Poll<Result<(), Failure>> {
        for _ in 0..ROUNDS {
            if self.phase == Phase::Closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_deliver(cx, to, &mut moved)).map_err(Failure::Write)?;
            if self.phase == Phase::Closing {
                let closed = SockRef::from(to).shutdown(Shutdown::Write);
                closed.map_err(Failure::Write)?;
                self.phase = Phase::Closed;
                continue;
            }
            let granted = ready!(self.poll_grant(cx, from, account)).map_err(Failure::Read)?;
            let progress = match lease_if(self.bulk.is_on) {
                Some(pipe) => self.poll_splice(cx, from, pipe, granted),
                None => self.poll_copy(cx, from, to, granted),
            };
            let read = match &progress {
                Poll::Ready(Ok(progress)) => progress.read,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            self.gate.settle(granted, read);
            let progress = ready!(progress)?;
            if progress.read == 0 {
                self.phase = Phase::Closing;
            } else {
                self.bulk.saw(progress.read);
                moved(progress);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the next thing to come is a read: an error of the source will be seen then.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Open && !self.holds_bytes() && !self.is_throttled()
    }

    /// Whether there is something to read that has to wait for bandwidth.
    pub(super) fn is_throttled(&self) -> bool {
        self.gate.is_waiting()
    }

    pub(super) fn holds_bytes(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// Ready when nothing is held any more.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        moved: &mut impl FnMut(Progress),
    ) -> Poll<io::Result<()>> {
        loop {
            let written = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(bytes, start) => {
                    let rest = bytes.get(*start..).unwrap_or_default();
                    let written =
                        ready!(poll_io(to, Interest::WRITABLE, cx, || to.try_write(rest)))?;
                    *start += written;
                    if written == rest.len() {
                        self.held = Held::Nothing;
                    }
                    written
                }
                Held::Pipe(pipe) => {
                    let written = ready!(poll_io(to, Interest::WRITABLE, cx, || {
                        to.try_io(Interest::WRITABLE, || pipe.drain(to))
                    }))?;
                    if pipe.is_empty() {
                        // Back to the pool: others may need it before there is more to read.
                        self.held = Held::Nothing;
                    }
                    written
                }
            };
            moved(Progress { read: 0, written });
        }
    }

    /// How much may be read. One that is limited takes tokens only when there is something to read.
    fn poll_grant(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        account: &Account,
    ) -> Poll<io::Result<usize>> {
        if !self.gate.is_limited(account.bandwidth(), account.source()) {
            return Poll::Ready(Ok(usize::MAX));
        }
        if !self.gate.is_waiting() {
            ready!(from.poll_read_ready(cx))?;
        }
        let most = if self.bulk.is_on {
            pipe::LARGEST
        } else {
            copy::SIZE
        };
        self.gate.poll_grant(cx, most).map(Ok)
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        mut pipe: Lease,
        most: usize,
    ) -> Poll<Result<Progress, Failure>> {
        let read = poll_io(from, Interest::READABLE, cx, || {
            from.try_io(Interest::READABLE, || pipe.fill(from, most))
        });
        let read = ready!(read).map_err(Failure::Read)?;
        if read > 0 {
            self.held = Held::Pipe(pipe);
        }
        Poll::Ready(Ok(Progress { read, written: 0 }))
    }

    /// Reads and writes at once; only what the receiver does not take is kept.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        most: usize,
    ) -> Poll<Result<Progress, Failure>> {
        copy::with_buffer(|buffer| {
            let most = most.min(buffer.len());
            let buffer = buffer.get_mut(..most).unwrap_or_default();
            let read = poll_io(from, Interest::READABLE, cx, || copy::read(from, buffer));
            let read = ready!(read).map_err(Failure::Read)?;
            if read == 0 {
                return Poll::Ready(Ok(Progress::default()));
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            let written = match to.try_write(bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Poll::Ready(Err(Failure::Write(error))),
            };
            let rest = bytes.get(written..).unwrap_or_default();
            if !rest.is_empty() {
                self.held = Held::Bytes(rest.into(), 0);
            }
            Poll::Ready(Ok(Progress { read, written }))
        })
    }
}

/// What flows, judged by the size of the reads.
#[derive(Clone, Copy, Debug, Default)]
struct Bulk {
    is_on: bool,
    score: u8,
}

impl Bulk {
    fn saw(&mut self, read: usize) {
        if read >= LARGE {
            self.score = (self.score + 1).min(CONVINCED);
        } else if read < SMALL {
            self.score = self.score.saturating_sub(1);
        }
        match self.score {
            CONVINCED => self.is_on = true,
            0 => self.is_on = false,
            _ => {}
        }
    }
}

fn lease_if(wanted: bool) -> Option<Lease> {
    if wanted { lease() } else { None }
}

/// Tries until it neither blocks nor is interrupted, and waits for readiness in between.
fn poll_io<T>(
    stream: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => return Poll::Ready(result),
        }
        if interest.is_readable() {
            ready!(stream.poll_read_ready(cx))?;
        } else {
            ready!(stream.poll_write_ready(cx))?;
        }
    }
}

#[cfg(test)]
mod tests;
