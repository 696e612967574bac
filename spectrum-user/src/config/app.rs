//! An application: what one document in `apps.d/` says, validated.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::protection::Protection;

/// One application.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub id: AppId,
    /// `dns.name`: how people call the app; unique among the documents.
    pub name: String,
    /// The document that defines it.
    pub document: PathBuf,
    pub transport: Transport,
    /// Ports on the edge.
    pub ports: PortRange,
    pub edge_ips: EdgeIps,
    /// At least one.
    pub origins: Vec<Origin>,
    /// Choose the origin with the lowest measured connect time instead of the next in turn.
    pub lowest_latency: bool,
    pub proxy_protocol: ProxyProtocol,
    /// For UDP with `v2`: which datagrams of a session carry the header.
    pub proxy_protocol_on: HeaderOn,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Whether access rules (block, allow) apply.
    pub ip_firewall: bool,
    pub protection: Protection,
}

/// 128 bits that name an app for ever; 32 hex digits in documents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(pub [u8; 16]);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Ports `first..=last`, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// The addresses that clients reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeIps {
    /// Every address of the shielded interfaces, of these families.
    Dynamic(Connectivity),
    /// These.
    Static(Vec<IpAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    All,
    Ipv4,
    Ipv6,
}

/// Where a protected server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub ip: IpAddr,
    /// The port that belongs to the first port of the app.
    pub first_port: u16,
}

impl Origin {
    /// The origin's address for a connection to `edge_port`: the offset within the range is kept.
    pub fn address(&self, ports: PortRange, edge_port: u16) -> SocketAddr {
        let offset = edge_port.saturating_sub(ports.first);
        SocketAddr::new(self.ip, self.first_port.saturating_add(offset))
    }
}

/// How the origin learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    Off,
    /// TCP only.
    V1,
    V2,
    /// UDP only: the 38-byte Simple Proxy Protocol.
    Simple,
}

/// Which datagrams of a UDP session carry a PROXY v2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderOn {
    First,
    Each,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For each attempt to reach an origin.
    pub connect: Duration,
    /// Without a byte in either direction. A TCP connection is closed; a UDP session expires.
    pub idle: Duration,
}

/// Bounds on what the proxy holds open; 0 never occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections, or UDP sessions, of the whole app at once.
    pub connections: u32,
    /// The same for one source address.
    pub connections_per_source: u32,
}
