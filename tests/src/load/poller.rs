//! Waiting for many sockets at once.

use std::{os::fd::AsFd, time::Duration};

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Sockets by their place in the owner's list.
pub(super) struct Poller(Epoll);

/// What a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
}

/// Room for what a [`Poller`] finds.
pub(super) struct Events(Vec<EpollEvent>);

impl Poller {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches a socket until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, place: usize, interest: Interest) -> Result<()> {
        Ok(self.0.add(socket, interest.event(place))?)
    }

    pub(super) fn change(&self, socket: impl AsFd, place: usize, interest: Interest) -> Result<()> {
        Ok(self.0.modify(socket, &mut interest.event(place))?)
    }

    /// The places of the sockets that need not wait any longer; none after the timeout.
    pub(super) fn wait<'events>(
        &self,
        events: &'events mut Events,
        timeout: Option<Duration>,
    ) -> Result<impl Iterator<Item = usize> + use<'events>> {
        let timeout = match timeout {
            Some(timeout) => EpollTimeout::try_from(timeout)?,
            None => EpollTimeout::NONE,
        };
        let ready = self.0.wait(&mut events.0, timeout)?;
        let places = events.0.iter().take(ready);
        Ok(places.map(|event| usize::try_from(event.data()).unwrap_or(usize::MAX)))
    }
}

impl Interest {
    fn event(self, place: usize) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
        };
        EpollEvent::new(flags, place as u64)
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self(vec![EpollEvent::empty(); 512])
    }
}
