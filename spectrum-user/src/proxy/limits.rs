//! How many connections and sessions an app may hold, in all, per network and per source, and how
//! fast new ones may begin.

mod counts;
mod rates;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::config::Limits;
use counts::Counts;
pub(super) use rates::Rates;

/// Counts what one app holds, over all workers. A source costs an entry only while it holds
/// something.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: AtomicU32,
    sources: Counts,
    prefixes: Counts,
}

/// The right to one connection or session; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    source: IpAddr,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Connections,
    ConnectionsPerPrefix,
    ConnectionsPerSource,
    NewConnections,
    NewConnectionsPerSource,
    /// All origins are full, and nobody waits here.
    Origins,
    /// All origins are full, and so is the queue.
    Queue,
    /// It has waited for too long.
    QueueTimeout,
}

impl Limit {
    /// As events have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerPrefix => "connections_per_prefix",
            Self::ConnectionsPerSource => "connections_per_source",
            Self::NewConnections => "new_connections",
            Self::NewConnectionsPerSource => "new_connections_per_source",
            Self::Origins => "origins",
            Self::Queue => "queue",
            Self::QueueTimeout => "queue_timeout",
        }
    }
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Bounds of the source come first, so that one that exceeds them takes nothing from others.
    ///
    /// # Errors
    /// The limit that stands against it.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &Limits,
        rates: &Rates,
    ) -> Result<Permit, Limit> {
        let source = source(client);
        let prefix = prefix(source);
        let of_prefix = self.prefixes.below(prefix, limits.connections_per_prefix);
        let of_prefix = of_prefix.ok_or(Limit::ConnectionsPerPrefix)?;
        let of_source = self.sources.below(source, limits.connections_per_source);
        let of_source = of_source.ok_or(Limit::ConnectionsPerSource)?;
        let turn = rates.turn_of(source)?;
        let taken = if self.total.fetch_add(1, Ordering::Relaxed) < limits.connections {
            rates.take()
        } else {
            Err(Limit::Connections)
        };
        if let Err(limit) = taken {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(limit);
        }
        turn.take();
        of_source.add_one();
        of_prefix.add_one();
        Ok(Permit {
            admission: Arc::clone(self),
            source,
        })
    }

    /// The right to what was admitted before, whatever the limits are by now.
    pub(super) fn readmit(self: &Arc<Self>, client: IpAddr) -> Permit {
        let source = source(client);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.sources.add_one(source);
        self.prefixes.add_one(prefix(source));
        Permit {
            admission: Arc::clone(self),
            source,
        }
    }

    /// What is held now.
    pub(super) fn active(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether a source holds something now.
    pub(super) fn holds(&self, source: IpAddr) -> bool {
        self.sources.holds(source)
    }

    /// The sources that hold something now.
    pub(super) fn sources(&self) -> Vec<IpAddr> {
        self.sources.keys()
    }

    fn release(&self, source: IpAddr) {
        self.sources.remove_one(source);
        self.prefixes.remove_one(prefix(source));
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self.source);
    }
}

/// Who counts as one source: an IPv4 address, or an IPv6 /64, which one subscriber has as a whole.
pub(super) fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}

/// The network of a source whose addresses one holder may well have all: an IPv4 /24, or an IPv6
/// /48, which is what a site is given.
fn prefix(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) >> 8 << 8).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests;
