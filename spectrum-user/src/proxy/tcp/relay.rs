//! Both directions of a connection, until both are over or one side is gone.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::direction::{Direction, Failure};
use crate::proxy::{account::Account, bandwidth::Way, clock::Idle};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Side {
    Client,
    Origin,
}

/// Why a relay is over.
#[derive(Debug)]
pub(in crate::proxy) enum End {
    /// Both sides have closed, and got all that the other had sent.
    Closed,
    /// Nothing happened for the idle timeout. Nothing is on the way.
    Idle { owing: Side },
    /// One side is gone, or does not take what is on its way.
    Failed { side: Side, error: io::Error },
}

impl End {
    /// After the idle timeout; `up` and `down` say whether bytes are held for the origin and for the
    /// client, and `last_from` who has sent last.
    pub(in crate::proxy) fn after_idle(up: bool, down: bool, last_from: Side) -> Self {
        let stalled = |side| Self::Failed {
            side,
            error: io::Error::from_raw_os_error(libc::ETIMEDOUT),
        };
        match last_from {
            _ if up => stalled(Side::Origin),
            _ if down => stalled(Side::Client),
            Side::Client => Self::Idle {
                owing: Side::Origin,
            },
            Side::Origin => Self::Idle {
                owing: Side::Client,
            },
        }
    }
}

/// Relays until the [`End`]. The origin gets `header` before anything else.
///
/// A FIN is passed on behind the last byte, and the other direction goes on. Of what a side sent
/// before it failed, all is passed on that the other side takes without delay.
pub(super) async fn relay(
    client: &TcpStream,
    origin: &TcpStream,
    header: Option<&[u8]>,
    idle: &Idle,
    account: &Account,
) -> End {
    let mut relay = Relay {
        up: Direction::new(Way::Up, header),
        down: Direction::new(Way::Down, None),
        client: Watched::new(client),
        origin: Watched::new(origin),
        last_from: Side::Client,
        idle,
        account,
    };
    loop {
        tokio::select! {
            biased;
            end = poll_fn(|cx| relay.poll(cx)) => return end,
            () = idle.expired() => {}
        }
        if !relay.up.is_throttled() && !relay.down.is_throttled() {
            break;
        }
        // Nobody is idle who waits for bandwidth.
        idle.touch();
    }
    End::after_idle(
        relay.up.holds_bytes(),
        relay.down.holds_bytes(),
        relay.last_from,
    )
}

struct Relay<'a> {
    up: Direction,
    down: Direction,
    client: Watched<'a>,
    origin: Watched<'a>,
    /// Who sent the last bytes.
    last_from: Side,
    idle: &'a Idle,
    account: &'a Account,
}

impl Relay<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let up = self.poll_up(cx);
        let down = self.poll_down(cx);
        let failed = match (up, down) {
            (Poll::Ready(Err(failure)), _) => {
                // What the origin had sent before it failed may have come in the meantime.
                let _ = self.poll_down(cx);
                failure.at(Side::Client, Side::Origin)
            }
            (_, Poll::Ready(Err(failure))) => {
                let _ = self.poll_up(cx);
                failure.at(Side::Origin, Side::Client)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => match self.poll_errors(cx) {
                Some(failed) => failed,
                None => return Poll::Pending,
            },
        };
        let (side, error) = failed;
        Poll::Ready(End::Failed { side, error })
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let (account, idle, last_from) = (self.account, self.idle, &mut self.last_from);
        let (from, to) = (self.client.stream, self.origin.stream);
        self.up.poll(cx, from, to, account, |progress| {
            idle.touch();
            account.ingress(progress.read);
            *last_from = Side::Client;
        })
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let (account, idle, last_from) = (self.account, self.idle, &mut self.last_from);
        let (from, to) = (self.origin.stream, self.client.stream);
        self.down.poll(cx, from, to, account, |progress| {
            idle.touch();
            account.egress(progress.written);
            *last_from = Side::Origin;
        })
    }

    /// A side that is not being read (because it has closed, or because the other side is slow)
    /// would be reset unseen.
    fn poll_errors(&mut self, cx: &mut Context<'_>) -> Option<(Side, io::Error)> {
        if !self.up.is_reading()
            && let Poll::Ready(error) = self.client.poll_error(cx)
        {
            return Some((Side::Client, error));
        }
        if !self.down.is_reading()
            && let Poll::Ready(error) = self.origin.poll_error(cx)
        {
            return Some((Side::Origin, error));
        }
        None
    }
}

/// A stream, and the future of its error once somebody has to wait for that: most connections
/// never do, and an idle one should be small.
struct Watched<'a> {
    stream: &'a TcpStream,
    error: Option<Pin<Box<dyn Future<Output = io::Error> + 'a>>>,
}

impl<'a> Watched<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self {
            stream,
            error: None,
        }
    }

    fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let stream = self.stream;
        let error = self.error.get_or_insert_with(|| Box::pin(error_of(stream)));
        error.as_mut().poll(cx)
    }
}

async fn error_of(stream: &TcpStream) -> io::Error {
    match stream.ready(Interest::ERROR).await {
        Ok(_) => {}
        Err(error) => return error,
    }
    match SockRef::from(stream).take_error() {
        Ok(Some(error)) | Err(error) => error,
        // Somebody else has taken it; there is no other way to lose a connection so suddenly.
        Ok(None) => io::Error::from_raw_os_error(libc::ECONNRESET),
    }
}
