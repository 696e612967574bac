//! Both directions of a connection whose bytes are decrypted on the way.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::{
    account::Account,
    bandwidth::{Gate, Way},
    clock::Idle,
    tcp::{End, Failure, Progress, Side, copy},
};

/// Reads and writes before others get their turn.
const ROUNDS: usize = 16;

/// One side of the relay.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// Ends what is sent in a way that tells it from a complete message; `None` if there is none but
    /// a reset.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<()>>>;
}

/// Relays until the [`End`]. The origin gets `header` before anything else.
///
/// An end is passed on behind the last byte, and the other direction goes on. One that TLS did not
/// announce is passed on unannounced, for the receiver to judge; who has no TLS sees a reset. A side that
/// is reset while it is not read is noticed when it is, or after the idle timeout.
pub(super) async fn relay(
    client: &mut impl Duplex,
    origin: &mut impl Duplex,
    header: Option<&[u8]>,
    idle: &Idle,
    account: &Account,
) -> End {
    let mut up = Direction::new(Way::Up, header);
    let mut down = Direction::new(Way::Down, None);
    let mut last_from = Side::Client;
    loop {
        let both = poll_fn(|cx| {
            let ups = up.poll(cx, client, origin, account, |progress| {
                idle.touch();
                account.ingress(progress.read);
                last_from = Side::Client;
            });
            let downs = down.poll(cx, origin, client, account, |progress| {
                idle.touch();
                account.egress(progress.written);
                last_from = Side::Origin;
            });
            let (side, error) = match (ups, downs) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
                (Poll::Ready(Err(failure)), _) => failure.at(Side::Client, Side::Origin),
                (_, Poll::Ready(Err(failure))) => {
                    // What the client had sent before may have come in the meantime.
                    let _ = up.poll(cx, client, origin, account, |progress| {
                        account.ingress(progress.read)
                    });
                    failure.at(Side::Origin, Side::Client)
                }
                _ => return Poll::Pending,
            };
            Poll::Ready(End::Failed { side, error })
        });
        tokio::select! {
            biased;
            end = both => return end,
            () = idle.expired() => {}
        }
        if !up.gate.is_waiting() && !down.gate.is_waiting() {
            break;
        }
        // Nobody is idle who waits for bandwidth.
        idle.touch();
    }
    End::after_idle(up.holds_bytes(), down.holds_bytes(), last_from)
}

/// One direction. Reads only when it holds nothing: a receiver that is slow slows its sender down.
struct Direction {
    gate: Gate,
    /// What was read and is not written yet: all from the index on.
    held: Option<(Box<[u8]>, usize)>,
    /// Something written may still wait in the receiver's TLS.
    unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The source has closed; the end goes out behind the bytes that are held.
    Closing,
    /// The same, but the source's TLS did not announce it.
    Cutting,
    Closed,
}

impl Direction {
    /// `header` goes before what is read, and counts for nothing.
    fn new(way: Way, header: Option<&[u8]>) -> Self {
        Self {
            gate: Gate::new(way),
            held: header.map(|header| (header.into(), 0)),
            unflushed: false,
            phase: Phase::Open,
        }
    }

    fn holds_bytes(&self) -> bool {
        self.held.is_some() || self.unflushed
    }

    /// Moves what can be moved; ready when the end is passed on, or when a side has failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Duplex,
        to: &mut impl Duplex,
        account: &Account,
        mut moved: impl FnMut(Progress),
    ) -> Poll<Result<(), Failure>> {
        for _ in 0..ROUNDS {
            if self.phase == Phase::Closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_deliver(cx, to, &mut moved)).map_err(Failure::Write)?;
            let ended = match self.phase {
                Phase::Open | Phase::Closed => None,
                Phase::Closing => Some(Pin::new(&mut *to).poll_shutdown(cx)),
                Phase::Cutting => match to.poll_cut(cx) {
                    None => return Poll::Ready(Err(Failure::Read(cut()))),
                    ended => ended,
                },
            };
            if let Some(ended) = ended {
                ready!(ended).map_err(Failure::Write)?;
                self.unflushed = false;
                self.phase = Phase::Closed;
                continue;
            }
            let Poll::Ready(progress) = self.poll_granted(cx, from, to, account) else {
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Failure::Write)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            };
            match progress {
                Ok(Progress { read: 0, .. }) => self.phase = Phase::Closing,
                Ok(progress) => moved(progress),
                Err(Failure::Read(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.phase = Phase::Cutting;
                }
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when nothing is held any more.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl Duplex,
        moved: &mut impl FnMut(Progress),
    ) -> Poll<io::Result<()>> {
        while let Some((bytes, start)) = &mut self.held {
            let rest = bytes.get(*start..).unwrap_or_default();
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            *start += written;
            if written == rest.len() {
                self.held = None;
            } else if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            moved(Progress { read: 0, written });
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and writes as much as it has bandwidth for.
    fn poll_granted(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Duplex,
        to: &mut impl Duplex,
        account: &Account,
    ) -> Poll<Result<Progress, Failure>> {
        if !self.gate.is_limited(account.bandwidth(), account.source()) {
            return self.poll_copy(cx, from, to, copy::SIZE);
        }
        let granted = ready!(self.gate.poll_grant(cx, copy::SIZE));
        let progress = self.poll_copy(cx, from, to, granted);
        let read = match &progress {
            Poll::Ready(Ok(progress)) => progress.read,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.gate.settle(granted, read);
        progress
    }

    /// Reads and writes at once; only what the receiver does not take is kept.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Duplex,
        to: &mut impl Duplex,
        most: usize,
    ) -> Poll<Result<Progress, Failure>> {
        copy::with_buffer(|buffer| {
            let mut buffer = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(Failure::Read)?;
            let bytes = buffer.filled();
            let mut written = 0;
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                match Pin::new(&mut *to).poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) | Poll::Pending => {
                        self.held = Some((rest.into(), 0));
                        break;
                    }
                    Poll::Ready(Ok(more)) => written += more,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Write(error))),
                }
            }
            self.unflushed |= written > 0;
            Poll::Ready(Ok(Progress {
                read: bytes.len(),
                written,
            }))
        })
    }
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
