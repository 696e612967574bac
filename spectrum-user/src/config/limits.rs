//! Bounds on what an app lets in and holds open.

use std::time::Duration;

/// Bounds of one app; 0 never occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections, or UDP sessions, of the whole app at once.
    pub connections: u32,
    /// The same for one network of clients: an IPv4 /24, or an IPv6 /48.
    pub connections_per_prefix: u32,
    /// The same for one source (IPv6: for a /64).
    pub connections_per_source: u32,
    pub new_connections: NewConnections,
    pub bandwidth: Bandwidth,
    /// `None`: who finds all origins full is refused.
    pub queue: Option<Queue>,
}

impl Limits {
    /// No bounds.
    pub const NONE: Self = Self {
        connections: u32::MAX,
        connections_per_prefix: u32::MAX,
        connections_per_source: u32::MAX,
        new_connections: NewConnections {
            app: None,
            per_source: None,
        },
        bandwidth: Bandwidth {
            per_connection: Ways::NONE,
            per_source: Ways::NONE,
            app: Ways::NONE,
        },
        queue: None,
    };
}

/// How fast connections and sessions may begin. `None`: as fast as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewConnections {
    /// Those of all sources together.
    pub app: Option<ConnectionRate>,
    /// Those of one source (IPv6: of a /64).
    pub per_source: Option<ConnectionRate>,
}

/// New connections per second, and how many may come at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRate {
    pub per_second: u32,
    pub burst: u32,
}

/// How many bytes of payload pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Those of one TCP connection or UDP session.
    pub per_connection: Ways,
    /// Those of all that one source has (IPv6: a /64).
    pub per_source: Ways,
    /// Those of the whole app.
    pub app: Ways,
}

impl Bandwidth {
    /// Whether nothing is bounded.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes per second, each way. `None`: as many as come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// From clients to origins.
    pub up: Option<u64>,
    /// From origins to clients.
    pub down: Option<u64>,
}

impl Ways {
    pub const NONE: Self = Self {
        up: None,
        down: None,
    };
}

/// Where TCP clients wait for a place at an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many at once.
    pub length: u32,
    /// How long each.
    pub timeout: Duration,
}
