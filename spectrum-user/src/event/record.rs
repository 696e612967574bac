//! The record, with the field names and vocabularies that readers of Spectrum's event log know.

use std::{fmt::Display, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{
    config::{AppId, Fingerprint, ProxyProtocol, Transport},
    geo::{Country, Place, Places},
};

/// One event. What is not known, or does not apply, is zero, empty, `UNKNOWN` or null.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    #[serde(serialize_with = "as_text")]
    pub application: AppId,
    /// The autonomous system; 0 if no database knows it.
    pub client_asn: u32,
    /// Received from the client.
    pub client_bytes: u64,
    /// Empty if no database knows it.
    #[serde(serialize_with = "as_country")]
    pub client_country: Country,
    #[serde(rename = "ClientIP")]
    pub client_ip: IpAddr,
    pub client_matched_ip_firewall: ClientMatchedIpFirewall,
    pub client_port: u16,
    pub client_proto: Protocol,
    /// Nanoseconds; 0 for UDP.
    pub client_tcp_rtt: u64,
    pub client_tls_cipher: &'static str,
    /// As the client named it.
    #[serde(serialize_with = "as_text_or_empty")]
    pub client_tls_client_hello_server_name: Option<Arc<str>>,
    pub client_tls_protocol: &'static str,
    pub client_tls_status: TlsStatus,
    /// The host's name.
    #[serde(serialize_with = "as_text")]
    pub colo_code: Arc<str>,
    pub connect_timestamp: Option<Timestamp>,
    pub disconnect_timestamp: Option<Timestamp>,
    pub event: Kind,
    /// Whether access rules apply to the app.
    pub ip_firewall: bool,
    /// Received from the origin, and sent to the client.
    pub origin_bytes: u64,
    #[serde(rename = "OriginIP", serialize_with = "as_text_or_empty")]
    pub origin_ip: Option<IpAddr>,
    pub origin_port: u16,
    pub origin_proto: Protocol,
    /// Nanoseconds; 0 for UDP.
    pub origin_tcp_rtt: u64,
    pub origin_tls_cipher: &'static str,
    /// SHA-256, in hex digits.
    #[serde(serialize_with = "as_text_or_empty")]
    pub origin_tls_fingerprint: Option<Fingerprint>,
    pub origin_tls_mode: &'static str,
    pub origin_tls_protocol: &'static str,
    pub origin_tls_status: TlsStatus,
    #[serde(serialize_with = "as_proxy_protocol")]
    pub proxy_protocol: ProxyProtocol,
    /// The limit that is reached, where the status says that one is.
    pub reason: &'static str,
    pub status: Status,
    pub timestamp: Timestamp,
}

impl Record {
    /// With what is known of where the client is.
    pub(super) fn located(self, places: &Places) -> Self {
        let Place { country, asn } = places.find(self.client_ip.to_canonical());
        Self {
            client_country: country,
            client_asn: asn,
            ..self
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// An origin was reached.
    Connect,
    /// A connection that had reached an origin ended.
    Disconnect,
    /// A limit or a rule refused the client.
    ClientFiltered,
    /// A TLS handshake failed, with the client or with every origin.
    TlsError,
    /// The name that leads to the origins has never been resolved.
    ResolveOrigin,
    /// No origin could be reached, or the origin of a UDP session refused a datagram.
    OriginError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientMatchedIpFirewall {
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsStatus {
    /// No handshake was tried.
    #[default]
    Unknown,
    Ok,
    /// The client named a server that the app does not serve.
    InvalidSni,
    HandshakeFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// How it ended: a number of the documented table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Status(pub u16);

impl Status {
    pub const OPENED: Self = Self(0);
    /// Both sides closed, or an idle UDP session expired.
    pub const CLOSED: Self = Self(200);
    /// The client named a server that the app does not serve.
    pub const BAD_SERVER_NAME: Self = Self(400);
    /// A limit of the app refused the client, or ended its connection or session.
    pub const DENIED: Self = Self(403);
    pub const CLIENT_HANDSHAKE_FAILED: Self = Self(443);
    pub const ORIGIN_RESET: Self = Self(444);
    /// The idle timeout passed while the origin owed an answer, or the kernel gave the origin up.
    pub const ORIGIN_TIMED_OUT: Self = Self(445);
    pub const ORIGIN_UNREACHABLE: Self = Self(446);
    pub const ORIGIN_IO_REFUSED: Self = Self(447);
    pub const ORIGIN_BROKEN_PIPE: Self = Self(448);
    /// What the client sent after the handshake is no TLS.
    pub const CLIENT_TLS_ERROR: Self = Self(490);
    pub const CLIENT_REFUSED: Self = Self(495);
    pub const CLIENT_UNREACHABLE: Self = Self(496);
    /// The idle timeout passed while the client owed an answer, or the kernel gave the client up.
    pub const CLIENT_TIMED_OUT: Self = Self(497);
    pub const CLIENT_BROKEN_PIPE: Self = Self(498);
    pub const CLIENT_RESET: Self = Self(499);
    /// The edge cut the connection itself: its app is gone, the process stops, or the host has run
    /// out of something.
    pub const INTERNAL: Self = Self(500);
    pub const ORIGIN_UNKNOWN_ERROR: Self = Self(520);
    pub const ORIGIN_REFUSED: Self = Self(521);
    pub const ORIGIN_CONNECT_TIMED_OUT: Self = Self(522);
    pub const ORIGIN_NETWORK_UNREACHABLE: Self = Self(523);
    pub const ORIGIN_CONNECT_ERROR: Self = Self(524);
    /// No answer has ever said where the origins are.
    pub const UNRESOLVABLE: Self = Self(531);
    /// The origin's certificate is not the one that the app demands.
    pub const ORIGIN_CERTIFICATE: Self = Self(540);
    pub const UNKNOWN: Self = Self(999);
}

pub(super) fn as_text<T: Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_text_or_empty<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str(""),
    }
}

fn as_country<S: Serializer>(country: &Country, serializer: S) -> Result<S::Ok, S::Error> {
    if *country == Country::UNKNOWN {
        return serializer.serialize_str("");
    }
    country.serialize(serializer)
}

fn as_proxy_protocol<S: Serializer>(
    value: &ProxyProtocol,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        ProxyProtocol::Off => "off",
        ProxyProtocol::V1 => "v1",
        ProxyProtocol::V2 => "v2",
        ProxyProtocol::Simple => "simple",
    })
}
