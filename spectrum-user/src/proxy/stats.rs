//! What is counted per app. Each worker has counters of its own, so that counting never makes two
//! of them wait for one cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::limits::Limit;

/// The counters of one app in one worker, alone on their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Stats {
    pub(super) connections: Counter,
    pub(super) refused: Counter,
    refusals: Refusals<Counter>,
    pub(super) evicted: Counter,
    pub(super) expired: Counter,
    pub(super) queued: Counter,
    pub(super) tls_errors: Counter,
    pub(super) origin_errors: Counter,
    pub(super) accept_errors: Counter,
    pub(super) dropped_datagrams: Counter,
    pub(super) amplification_dropped: Counter,
    pub(super) amplification_monitored: Counter,
    pub(super) bandwidth_dropped: Counter,
    pub(super) ingress_bytes: Counter,
    pub(super) egress_bytes: Counter,
}

impl Stats {
    /// Counts what a limit refused.
    pub(super) fn refuse(&self, limit: Limit) {
        self.refused.add(1);
        self.refusals.of(limit).add(1);
    }
}

/// What was refused, by the limit that was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals<T = u64> {
    pub connections: T,
    pub connections_per_prefix: T,
    pub connections_per_source: T,
    pub new_connections: T,
    pub new_connections_per_source: T,
    /// All origins were full.
    pub origins: T,
    /// All origins were full, and the queue as well.
    pub queue: T,
    /// No origin had a place for them in time.
    pub queue_timeout: T,
}

impl<T> Refusals<T> {
    fn of(&self, limit: Limit) -> &T {
        match limit {
            Limit::Connections => &self.connections,
            Limit::ConnectionsPerPrefix => &self.connections_per_prefix,
            Limit::ConnectionsPerSource => &self.connections_per_source,
            Limit::NewConnections => &self.new_connections,
            Limit::NewConnectionsPerSource => &self.new_connections_per_source,
            Limit::Origins => &self.origins,
            Limit::Queue => &self.queue,
            Limit::QueueTimeout => &self.queue_timeout,
        }
    }
}

/// Monotonic.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// Counters of an app, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// TCP connections and UDP sessions that were admitted.
    pub connections: u64,
    /// TCP connections, and datagrams of would-be UDP sessions, that a limit refused.
    pub refused: u64,
    /// The same, by the limit that was reached.
    pub refusals: Refusals,
    /// UDP sessions that made room for newer ones, because their clients had not proved to be real.
    pub evicted: u64,
    /// Connections and sessions that lasted for as long as one may.
    pub expired: u64,
    /// Connections that had to wait for a place at an origin.
    pub queued: u64,
    /// Connections that ended in a TLS handshake, with the client or with every origin.
    pub tls_errors: u64,
    /// Connections and sessions for which no origin could be reached.
    pub origin_errors: u64,
    /// Times that a connection could not be accepted, for want of file descriptors or the like.
    pub accept_errors: u64,
    /// Datagrams that could not be forwarded, or that came with a header of no live session.
    pub dropped_datagrams: u64,
    /// Datagrams of origins that were withheld from clients that had not proved to be real, because
    /// they were too much for what these had sent.
    pub amplification_dropped: u64,
    /// The same, but sent: the rule is in mode `monitor`.
    pub amplification_monitored: u64,
    /// Datagrams for which `limits.bandwidth` had no room.
    pub bandwidth_dropped: u64,
    /// Received from clients.
    pub ingress_bytes: u64,
    /// Sent to clients.
    pub egress_bytes: u64,
}

impl Totals {
    pub(super) fn of(workers: &[Stats]) -> Self {
        let sum = |counter: fn(&Stats) -> &Counter| {
            let values = workers
                .iter()
                .map(|stats| counter(stats).0.load(Ordering::Relaxed));
            values.sum()
        };
        Self {
            connections: sum(|stats| &stats.connections),
            refused: sum(|stats| &stats.refused),
            refusals: Refusals {
                connections: sum(|stats| &stats.refusals.connections),
                connections_per_prefix: sum(|stats| &stats.refusals.connections_per_prefix),
                connections_per_source: sum(|stats| &stats.refusals.connections_per_source),
                new_connections: sum(|stats| &stats.refusals.new_connections),
                new_connections_per_source: sum(|stats| &stats.refusals.new_connections_per_source),
                origins: sum(|stats| &stats.refusals.origins),
                queue: sum(|stats| &stats.refusals.queue),
                queue_timeout: sum(|stats| &stats.refusals.queue_timeout),
            },
            evicted: sum(|stats| &stats.evicted),
            expired: sum(|stats| &stats.expired),
            queued: sum(|stats| &stats.queued),
            tls_errors: sum(|stats| &stats.tls_errors),
            origin_errors: sum(|stats| &stats.origin_errors),
            accept_errors: sum(|stats| &stats.accept_errors),
            dropped_datagrams: sum(|stats| &stats.dropped_datagrams),
            amplification_dropped: sum(|stats| &stats.amplification_dropped),
            amplification_monitored: sum(|stats| &stats.amplification_monitored),
            bandwidth_dropped: sum(|stats| &stats.bandwidth_dropped),
            ingress_bytes: sum(|stats| &stats.ingress_bytes),
            egress_bytes: sum(|stats| &stats.egress_bytes),
        }
    }
}
