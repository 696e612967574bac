//! A way for the datagrams of a UDP session past the proxy, for whoever can offer one.
//!
//! The proxy begins each session and ends it, and in between is told what was carried, so that its books
//! say the same whichever way a datagram took.

use std::{fmt, net::SocketAddr, time::Duration};

/// Who may carry the datagrams of sessions.
pub trait Shortcut: fmt::Debug + Send + Sync {
    /// Carries those of one from now on; `None` if that cannot be. Whatever is not carried still comes to
    /// the proxy.
    fn open(&self, route: &Route) -> Option<Box<dyn Passage>>;
}

/// A session whose datagrams are carried, until this is closed or dropped.
pub trait Passage: fmt::Debug {
    /// What was carried so far: to the origin, and to the client.
    fn carried(&self) -> [Carried; 2];

    /// Ends it, and returns the same.
    fn close(self: Box<Self>) -> [Carried; 2];
}

/// A session as its datagrams see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub client: SocketAddr,
    /// What the client reaches.
    pub edge: SocketAddr,
    /// Of the proxy's socket to the origin.
    pub outside: SocketAddr,
    pub origin: SocketAddr,
}

/// What was carried in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub datagrams: u64,
    /// Of payload.
    pub bytes: u64,
    /// When the last one was, by `CLOCK_MONOTONIC_COARSE`; zero if there was none.
    pub last: Duration,
}
