//! Bounds on what an app lets in and holds open.

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
