#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::*;
use crate::{
    config::{AppId, ProxyProtocol},
    geo::{Country, Place, Range, Ranges},
};

/// A record with something in every field that can hold something.
pub(super) fn record() -> Record {
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    Record {
        application: AppId([0xab; 16]),
        client_asn: 0,
        client_bytes: 1,
        client_country: Country::UNKNOWN,
        client_ip: "192.0.2.7".parse().unwrap(),
        client_matched_ip_firewall: ClientMatchedIpFirewall::Unknown,
        client_port: 40_000,
        client_proto: Protocol::Tcp,
        client_tcp_rtt: 1_000_000,
        client_tls_cipher: "",
        client_tls_client_hello_server_name: None,
        client_tls_protocol: "",
        client_tls_status: TlsStatus::Unknown,
        colo_code: "edge".into(),
        connect_timestamp: Some(at),
        disconnect_timestamp: None,
        event: Kind::ClientFiltered,
        ip_firewall: true,
        origin_bytes: 2,
        origin_ip: None,
        origin_port: 0,
        origin_proto: Protocol::Tcp,
        origin_tcp_rtt: 0,
        origin_tls_cipher: "",
        origin_tls_fingerprint: None,
        origin_tls_mode: "off",
        origin_tls_protocol: "",
        origin_tls_status: TlsStatus::Unknown,
        proxy_protocol: ProxyProtocol::V2,
        reason: "connections",
        status: Status::DENIED,
        timestamp: at,
    }
}

/// Whoever parses the log today goes on to parse it.
#[test]
fn a_record_has_the_32_documented_fields() {
    let json = serde_json::to_value(record()).unwrap();
    let mut names: Vec<_> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    let documented = "Application ClientAsn ClientBytes ClientCountry ClientIP \
        ClientMatchedIpFirewall ClientPort ClientProto ClientTcpRtt ClientTlsCipher \
        ClientTlsClientHelloServerName ClientTlsProtocol ClientTlsStatus ColoCode \
        ConnectTimestamp DisconnectTimestamp Event IpFirewall OriginBytes OriginIP OriginPort \
        OriginProto OriginTcpRtt OriginTlsCipher OriginTlsFingerprint OriginTlsMode \
        OriginTlsProtocol OriginTlsStatus ProxyProtocol Reason Status Timestamp";
    assert_eq!(names, documented.split_whitespace().collect::<Vec<_>>());
    assert_eq!(json["Application"], "ab".repeat(16));
    assert_eq!(json["ClientIP"], "192.0.2.7");
    assert_eq!(json["ClientMatchedIpFirewall"], "UNKNOWN");
    assert_eq!(json["ClientCountry"], "");
    assert_eq!(json["ClientProto"], "tcp");
    assert_eq!(json["ConnectTimestamp"], "2023-11-14T22:13:20Z");
    assert!(json["DisconnectTimestamp"].is_null());
    assert_eq!(json["Event"], "clientFiltered");
    assert_eq!(json["OriginIP"], "");
    assert_eq!(json["ProxyProtocol"], "v2");
    assert_eq!(json["Status"], 403);
}

/// An operator who asks where an attack came from would be told nothing, or of yesterday's addresses.
#[test]
fn a_record_says_where_the_client_is_by_the_databases_of_now() {
    let country = |code: &str| Country::parse(code).unwrap();
    let known = |code, asn| {
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        let place = Place {
            country: country(code),
            asn,
        };
        let range = Range {
            first: ip,
            last: ip,
            place,
        };
        Arc::new(Places::new([&Ranges::new([range])]))
    };
    let (sink, receiver) = channel();
    let said = |ip: &str| {
        sink.send(Record {
            client_ip: ip.parse().unwrap(),
            ..record()
        });
        let record = receiver.next(Duration::ZERO).unwrap();
        (record.client_country, record.client_asn)
    };
    let nowhere = (Country::UNKNOWN, 0);
    assert_eq!(said("192.0.2.7"), nowhere);
    sink.learn(known("DE", 64_500));
    assert_eq!(said("192.0.2.7"), (country("DE"), 64_500));
    assert_eq!(said("::ffff:192.0.2.7"), (country("DE"), 64_500));
    assert_eq!(said("192.0.2.8"), nowhere);
    sink.learn(known("KP", 64_496));
    assert_eq!(said("192.0.2.7"), (country("KP"), 64_496));
    let json = serde_json::to_value(record().located(&known("KP", 64_496))).unwrap();
    assert_eq!(json["ClientCountry"], "KP");
    assert_eq!(json["ClientAsn"], 64_496);
}

/// A stalled reader of events never stalls a connection; the operator sees how many are missing.
#[test]
fn a_full_queue_loses_and_counts() {
    let (sink, receiver) = bounded(2);
    for _ in 0..5 {
        sink.send(record());
    }
    assert_eq!(sink.lost(), 3);
    assert!(receiver.next(Duration::ZERO).is_some());
    assert!(receiver.next(Duration::ZERO).is_some());
    assert!(receiver.next(Duration::ZERO).is_none());
    drop(receiver);
    sink.send(record());
    assert_eq!(sink.lost(), 4);
    assert!(!Sink::discard().is_wanted());
}
