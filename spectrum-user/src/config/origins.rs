//! The protected servers of an app, and how its connections are spread over them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{PortRange, words::words};

/// The origins of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// At least one and at most [`MAX`](Self::MAX), no two of them the same; none where names are
    /// looked up instead.
    pub members: Vec<Member>,
    /// The name that leads to the origins.
    pub lookup: Option<Lookup>,
    pub balance: Balance,
    /// How many more origins a connection tries when one cannot be reached.
    pub retries: u32,
    /// How long an origin that comes back takes to get its whole share again.
    pub slow_start: Duration,
    pub source: SourceAddress,
    /// How many TCP connections or UDP sessions each origin may have.
    pub max_connections: Option<u32>,
}

/// From which address this host connects to the origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// The one that the kernel chooses by the route.
    Route,
    /// These in turn, as far as they are of the origin's family; not empty.
    Pool(Vec<IpAddr>),
    /// The client's (`IP_TRANSPARENT`), if it is of the origin's family.
    Client,
}

/// One origin, and its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub origin: Origin,
    /// Its share of the connections, against those of the others; never 0.
    pub weight: u16,
    /// Gets connections only while no origin of a lower rank can; 1 for a backup.
    pub rank: u16,
    /// Gets no new connections; those that it has go on.
    pub maintenance: bool,
}

/// Where a protected server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub ip: IpAddr,
    /// The port that belongs to the first port of the app.
    pub first_port: u16,
}

/// A name that leads to origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// In lower case, without a dot at the end.
    pub name: String,
    pub records: Records,
    /// The port that belongs to the first port of the app; `None` if the records say it.
    pub first_port: Option<u16>,
    /// How old an answer may grow, though its own time to live be longer.
    pub max_age: Duration,
}

/// What is asked about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// Addresses of both families.
    Any,
    A,
    Aaaa,
    /// Targets with ports, priorities and weights.
    Srv,
}

words!(Records {
    Any = "",
    A = "A",
    Aaaa = "AAAA",
    Srv = "SRV",
});

/// Which origin the next connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The next in turn; the heavier, the more often.
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// The one that belongs to the client's address.
    SourceHash,
    /// The one that is reached the soonest.
    LowestLatency,
}

words!(Balance {
    RoundRobin = "round-robin",
    LeastConnections = "least-connections",
    SourceHash = "source-hash",
    LowestLatency = "lowest-latency",
});

impl Origins {
    /// The most that an app may have.
    pub const MAX: usize = 64;

    /// If the document does not say otherwise.
    pub const RETRIES: u32 = 3;
}

/// Equal among themselves, and everything else as it is by default.
impl FromIterator<Origin> for Origins {
    fn from_iter<I: IntoIterator<Item = Origin>>(origins: I) -> Self {
        Self {
            members: origins.into_iter().map(Member::from).collect(),
            lookup: None,
            balance: Balance::RoundRobin,
            retries: Self::RETRIES,
            slow_start: Duration::ZERO,
            source: SourceAddress::Route,
            max_connections: None,
        }
    }
}

impl From<Origin> for Member {
    fn from(origin: Origin) -> Self {
        Self {
            origin,
            weight: 1,
            rank: 0,
            maintenance: false,
        }
    }
}

impl Origin {
    /// The origin's address for a connection to `edge_port`: the offset within the range is kept.
    pub fn address(&self, ports: PortRange, edge_port: u16) -> SocketAddr {
        let offset = edge_port.saturating_sub(ports.first);
        SocketAddr::new(self.ip, self.first_port.saturating_add(offset))
    }
}
