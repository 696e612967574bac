//! An application: what one document in `apps.d/` says, validated.

use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    health::Health,
    limits::Limits,
    origins::{Origin, Origins},
    protection::Protection,
    routing::Routing,
    tls::{Tls, TlsMode},
    words::words,
};

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
    pub origins: Origins,
    /// `None`: origins are not checked.
    pub health: Option<Health>,
    pub proxy_protocol: ProxyProtocol,
    /// For UDP with `v2`: which datagrams of a session carry the header.
    pub proxy_protocol_on: HeaderOn,
    /// Who moves the datagrams of UDP sessions; for TCP always [`DataPath::Proxy`].
    pub data_path: DataPath,
    /// `None`: all clients get the same origins.
    pub routing: Option<Routing>,
    /// `None`: what comes is passed on as it is, TLS or not.
    pub tls: Option<Tls>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Whether access rules (block, allow) apply.
    pub ip_firewall: bool,
    pub protection: Protection,
}

impl App {
    /// Transport and ports as documents have them: `tcp/22`.
    pub fn protocol(&self) -> String {
        format!("{}/{}", self.transport, self.ports)
    }

    /// Whether datagrams of its sessions need nothing but other addresses, so that the filter may carry
    /// them past the proxy.
    pub fn may_be_carried(&self) -> bool {
        self.transport == Transport::Udp
            && self.data_path != DataPath::Proxy
            && self.proxy_protocol == ProxyProtocol::Off
            && self.limits.bandwidth.is_unlimited()
    }

    /// Whether a client has to say something before it gets an origin.
    pub fn reads_first(&self) -> bool {
        self.tls.is_some() || self.routing.is_some()
    }

    /// What its document says of TLS.
    pub fn tls_mode(&self) -> TlsMode {
        self.tls.as_ref().map_or(TlsMode::Off, Tls::mode)
    }

    /// The ports of origins whose name is looked up for addresses alone.
    pub fn lookup_ports(&self) -> Option<RangeInclusive<u16>> {
        let first = self.origins.lookup.as_ref()?.first_port?;
        Some(first..=first.saturating_add(self.ports.last - self.ports.first))
    }

    /// An origin as documents write it: `tcp://192.0.2.1:22`.
    pub fn origin_url(&self, origin: &Origin) -> String {
        let (transport, ports) = (self.transport, self.ports);
        let first = origin.address(ports, ports.first);
        if ports.first == ports.last {
            return format!("{transport}://{first}");
        }
        let last = origin.address(ports, ports.last).port();
        format!("{transport}://{first}-{last}")
    }
}

/// 128 bits that name an app for ever; 32 hex digits in documents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AppId(pub [u8; 16]);

impl From<AppId> for String {
    fn from(id: AppId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for AppId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the id of an app")
    }
}

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

impl AppId {
    /// From 32 hex digits, of which one at least is not 0.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match u128::from_str_radix(text, 16) {
            Ok(0) | Err(_) => None,
            Ok(bits) => Some(Self(bits.to_be_bytes())),
        }
    }

    /// The id of an app whose document gives none: it stays the same as long as the file's name
    /// does.
    pub fn from_file_stem(stem: &str) -> Self {
        let digest = sha2::Sha256::digest(stem.as_bytes());
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest) {
            *to = from;
        }
        Self(id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Udp,
}

words!(Transport {
    Tcp = "tcp",
    Udp = "udp",
});

/// Ports `first..=last`, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many ports there are; at least 1.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

/// As documents write it: `22` or `1000-2000`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
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

words!(Connectivity {
    All = "all",
    Ipv4 = "ipv4",
    Ipv6 = "ipv6",
});

impl Connectivity {
    /// Whether addresses of this family are reached.
    pub fn includes(self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Ipv4 => ip.is_ipv4(),
            Self::Ipv6 => ip.is_ipv6(),
        }
    }

    /// Whether there may be an address that both include.
    pub fn overlaps(self, other: Self) -> bool {
        self == other || self == Self::All || other == Self::All
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

words!(ProxyProtocol {
    Off = "off",
    V1 = "v1",
    V2 = "v2",
    Simple = "simple",
});

/// Which datagrams of a UDP session carry a PROXY v2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderOn {
    First,
    Each,
}

words!(HeaderOn {
    First = "first",
    Each = "each",
});

/// Who moves the datagrams of UDP sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// The filter, where it can; the proxy otherwise.
    Auto,
    Proxy,
    /// The filter, and it is an error if it cannot.
    Kernel,
}

words!(DataPath {
    Auto = "auto",
    Proxy = "proxy",
    Kernel = "kernel",
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For each attempt to reach an origin.
    pub connect: Duration,
    /// For each TLS handshake, with the client or an origin, and for the message in which a client
    /// names a host.
    pub handshake: Duration,
    /// Without a byte in either direction. A TCP connection is closed; a UDP session expires.
    pub idle: Duration,
    /// From the beginning to the end of a connection or session, whatever it does.
    pub max_duration: Option<Duration>,
}
