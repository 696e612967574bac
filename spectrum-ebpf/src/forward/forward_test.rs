//! A datagram with a wrong byte is one that nobody takes.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    vec::Vec,
};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;
use spectrum_common::forward::{Forward, ForwardCounters, ForwardLine};

use super::*;
use crate::parse::parse;

const CLIENT: &str = "198.51.100.7:40000";
const EDGE: &str = "203.0.113.1:53";
const OUTSIDE: &str = "10.0.0.1:51000";
const ORIGIN: &str = "10.0.0.2:5300";
const CLIENT_V6: &str = "[2001:db8::7]:40000";
const EDGE_V6: &str = "[2001:db8:1::1]:53";
const OUTSIDE_V6: &str = "[fd00::1]:51000";
const ORIGIN_V6: &str = "[fd00::2]:5300";

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn forward(from: [SocketAddr; 2], to: [SocketAddr; 2]) -> Forward {
    Forward {
        source: from[0].ip().into(),
        destination: from[1].ip().into(),
        new_source: to[0].ip().into(),
        new_destination: to[1].ip().into(),
        source_port: from[0].port(),
        destination_port: from[1].port(),
        new_source_port: to[0].port(),
        new_destination_port: to[1].port(),
        ..Forward::default()
    }
}

fn datagram([from, to]: [SocketAddr; 2], hops: u8, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), hops),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    let datagram = ip.udp(from.port(), to.port());
    datagram.write(&mut frame, payload).expect("a frame");
    frame
}

fn facts(frame: &[u8]) -> Packet {
    let mut packet = Packet::default();
    parse(frame, &mut packet);
    packet
}

fn transport(frame: &[u8]) -> usize {
    usize::from(facts(frame).transport_offset)
}

fn headers(frame: &[u8]) -> Headers {
    let at = transport(frame) + 6;
    let word = |at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let packet = facts(frame);
    Headers {
        hops: packet.hops,
        network_checksum_be: if packet.source.is_ipv4() { word(24) } else { 0 },
        checksum_be: word(at),
    }
}

/// What the program makes of a frame.
fn carried(frame: &[u8], forward: &Forward) -> Result<Vec<u8>, Left> {
    let packet = facts(frame);
    let headers = headers(frame).translate(&packet, forward)?;
    let transport = transport(frame);
    let mut frame = frame.to_vec();
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    match (
        IpAddr::from(forward.new_source),
        IpAddr::from(forward.new_destination),
    ) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(22, &[headers.hops]);
            put(24, &headers.network_checksum_be.to_ne_bytes());
            put(26, &source.octets());
            put(30, &destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(21, &[headers.hops]);
            put(22, &source.octets());
            put(38, &destination.octets());
        }
        _ => panic!("one family"),
    }
    put(transport, &forward.new_source_port.to_be_bytes());
    put(transport + 2, &forward.new_destination_port.to_be_bytes());
    put(transport + 6, &headers.checksum_be.to_ne_bytes());
    Ok(frame)
}

/// The checksums that a frame has, and those that it should have.
fn checksums(frame: &[u8]) -> ([u16; 2], [u16; 2]) {
    let parsed = PacketHeaders::from_ethernet_slice(frame).expect("a frame");
    let Some(TransportHeader::Udp(udp)) = parsed.transport else {
        panic!("no datagram");
    };
    let payload = parsed.payload.slice();
    match parsed.net.expect("IP") {
        NetHeaders::Ipv4(ip, _) => (
            [ip.header_checksum, udp.checksum],
            [
                ip.calc_header_checksum(),
                udp.calc_checksum_ipv4(&ip, payload).expect("short"),
            ],
        ),
        NetHeaders::Ipv6(ip, _) => (
            [0, udp.checksum],
            [0, udp.calc_checksum_ipv6(&ip, payload).expect("short")],
        ),
        NetHeaders::Arp(_) => panic!("no IP"),
    }
}

fn v4() -> (Forward, Vec<u8>) {
    let ends = [at(CLIENT), at(EDGE)];
    let forward = forward(ends, [at(OUTSIDE), at(ORIGIN)]);
    (forward, datagram(ends, 64, b"payload"))
}

fn v6() -> (Forward, Vec<u8>) {
    let ends = [at(CLIENT_V6), at(EDGE_V6)];
    let forward = forward(ends, [at(OUTSIDE_V6), at(ORIGIN_V6)]);
    (forward, datagram(ends, 64, b"payload"))
}

#[test]
fn an_origin_sees_a_datagram_of_the_proxys_socket() {
    for (forward, frame) in [v4(), v6()] {
        let carried = carried(&frame, &forward).expect("carried");
        let facts = facts(&carried);
        assert_eq!(facts.source, forward.new_source);
        assert_eq!(facts.destination, forward.new_destination);
        assert_eq!(facts.source_port, forward.new_source_port);
        assert_eq!(facts.destination_port, forward.new_destination_port);
        assert_eq!(facts.hops, 63);
        let (has, should) = checksums(&carried);
        assert_eq!(has, should);
        let payload = transport(&frame) + 8;
        assert_eq!(carried[payload..], frame[payload..]);
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_none() {
    let (forward, mut frame) = v4();
    frame[40..42].fill(0);
    let carried = carried(&frame, &forward).expect("carried");
    assert_eq!(carried[40..42], [0, 0]);
    assert_eq!(checksums(&carried).0[0], checksums(&carried).1[0]);
}

#[test]
fn over_ipv6_one_without_a_checksum_is_not_carried() {
    let (forward, mut frame) = v6();
    frame[60..62].fill(0);
    assert_eq!(carried(&frame, &forward), Err(Left::Unfinished));
}

/// A virtual interface hands it over, and redirected it would lose who is to finish it.
#[test]
fn a_datagram_whose_checksum_is_unfinished_is_left_to_the_host() {
    for (forward, mut frame) in [v4(), v6()] {
        let packet = facts(&frame);
        let (address, at) = if packet.source.is_ipv4() {
            (26..34, 40)
        } else {
            (22..54, 60)
        };
        let length = transport(&frame) + 4;
        let mut sum: u32 = 17;
        let words = frame[address].chunks(2).chain([&frame[length..length + 2]]);
        sum += words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let pseudo = u16::try_from(sum).expect("folded");
        frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(carried(&frame, &forward), Err(Left::Unfinished));
    }
}

#[test]
fn a_datagram_that_ends_here_is_not_carried() {
    for hops in [0, 1] {
        let (forward, _) = v4();
        let frame = datagram([at(CLIENT), at(EDGE)], hops, b"");
        assert_eq!(carried(&frame, &forward), Err(Left::Expired));
    }
}

#[test]
fn only_whole_plain_datagrams_are_carried() {
    let (_, frame) = v4();
    let length = u32::try_from(frame.len()).expect("short");
    let packet = facts(&frame);
    assert!(is_plain(&packet, length));
    assert!(is_plain(&packet, length + 18), "padding");
    assert!(!is_plain(&packet, length - 1), "in several buffers");
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    assert!(!is_plain(&facts(&fragment), length), "a first fragment");
    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0, 0, 1]);
    assert!(!is_plain(&facts(&tagged), length + 4), "a VLAN tag");
    let mut optional = frame;
    optional[14] += 1;
    optional[17] += 4;
    optional.splice(34..34, [1; 4]);
    assert!(!is_plain(&facts(&optional), length + 4), "IP options");
}

#[test]
fn each_end_of_a_flow_counts() {
    let (forward, frame) = v4();
    assert!(is_of(&facts(&frame), &forward));
    for (client, edge) in [
        ("198.51.100.7:40001", EDGE),
        ("198.51.100.8:40000", EDGE),
        (CLIENT, "203.0.113.1:54"),
        (CLIENT, "203.0.113.2:53"),
    ] {
        let other = datagram([at(client), at(edge)], 64, b"");
        assert!(!is_of(&facts(&other), &forward), "{client} {edge}");
    }
}

#[test]
fn a_line_leads_to_its_flows_and_no_other() {
    let place = |client: u16| {
        let client = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 7).into(), client);
        Place::of(&facts(&datagram([client, at(EDGE)], 64, b"")), 7)
    };
    let mut line = ForwardLine::default();
    assert_eq!(place(1).find(&line), None);
    line.entries[3] = place(1).entry(0);
    line.entries[5] = place(2).entry(65_535);
    assert_eq!(place(1).find(&line), Some(0));
    assert_eq!(place(2).find(&line), Some(65_535));
    assert_eq!(place(3).find(&line), None);
}

/// Otherwise sessions would be refused room while there is some.
#[test]
fn flows_of_one_network_spread_over_the_lines() {
    let mut counts = std::vec![0_u8; LINES as usize];
    for number in 0..LINES * 2 {
        let [_, b, c, d] = number.to_be_bytes();
        let client = SocketAddr::from(([10, b, c, d], 4000));
        let (client, edge) = (client, at(EDGE));
        let place = Place::new(
            (&client.ip().into(), client.port()),
            (&edge.ip().into(), edge.port()),
            7,
        );
        counts[place.line_index() as usize] += 1;
    }
    assert!(counts.iter().all(|count| *count < 16), "crowded");
}

/// Else an origin could be feigned from where its own packets never come.
#[test]
fn a_datagram_comes_by_the_interface_of_its_flow() {
    let (mut forward, _) = v4();
    forward.renewed_ns = 1;
    assert_eq!(admit(&forward, 7, 2), Ok(()), "any");
    forward.interface = 7;
    assert_eq!(admit(&forward, 7, 2), Ok(()));
    assert_eq!(admit(&forward, 8, 2), Err(Left::Astray));
}

/// Else nobody would notice that a gateway has another link address.
#[test]
fn the_kernel_sees_a_datagram_now_and_then() {
    let (mut forward, _) = v4();
    forward.renewed_ns = 5;
    assert_eq!(admit(&forward, 7, 4 + RENEWAL_NS), Ok(()));
    assert_eq!(admit(&forward, 7, 5 + RENEWAL_NS), Err(Left::Renewal));
    assert_eq!(admit(&forward, 7, 0), Ok(()), "clocks of other CPUs");
}

#[test]
fn what_becomes_of_a_datagram_is_counted_once() {
    let all = [
        None,
        Some(Left::OddShape),
        Some(Left::Unfinished),
        Some(Left::Astray),
        Some(Left::Renewal),
        Some(Left::Expired),
        Some(Left::NoRoute),
        Some(Left::TooBig),
        Some(Left::NoNeighbour),
        Some(Left::NoPort),
    ];
    let mut counters = ForwardCounters::default();
    all.iter().for_each(|left| count(&mut counters, *left));
    let once = ForwardCounters {
        carried: 1,
        odd_shape: 1,
        unfinished: 1,
        astray: 1,
        renewal: 1,
        expired: 1,
        no_route: 1,
        too_big: 1,
        no_neighbour: 1,
        no_port: 1,
    };
    assert_eq!(counters, once);
}

fn end(is_ipv4: bool) -> BoxedStrategy<SocketAddr> {
    let ip = if is_ipv4 {
        // No martians: the parser reads no further then.
        (0x0b00_0000_u32..0x7e00_0000)
            .prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)))
            .boxed()
    } else {
        (any::<u128>())
            .prop_map(|bits| Ipv6Addr::from_bits(bits & !(0xf_u128 << 124) | 2 << 124).into())
            .boxed()
    };
    (ip, any::<u16>()).prop_map(SocketAddr::from).boxed()
}

fn ends(is_ipv4: bool) -> impl Strategy<Value = [SocketAddr; 4]> {
    [end(is_ipv4), end(is_ipv4), end(is_ipv4), end(is_ipv4)]
}

proptest! {
    /// Nobody on the way, and no stack at the end, throws a carried datagram away.
    #[test]
    fn incremental_checksums_are_those_computed_anew(
        [a, b, c, d] in any::<bool>().prop_flat_map(ends),
        hops in 2..=255_u8,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assume!(a.ip() != b.ip());
        let forward = forward([a, b], [c, d]);
        let frame = datagram([a, b], hops, &payload);
        match carried(&frame, &forward) {
            Ok(carried) => {
                let (has, should) = checksums(&carried);
                prop_assert_eq!(has, should);
            }
            // By chance, see `is_unfinished`.
            Err(left) => prop_assert_eq!(left, Left::Unfinished),
        }
    }

    /// Payloads whose checksum comes to either zero are the corners of this arithmetic.
    #[test]
    fn no_checksum_becomes_none(
        [a, b, c, d] in any::<bool>().prop_flat_map(ends),
        fill in any::<u16>(),
    ) {
        prop_assume!(a.ip() != b.ip());
        let forward = forward([a, b], [c, d]);
        // The payload's word makes the checksum of what leaves 0 or the other zero.
        let blank = datagram([a, b], 64, &[0, 0]);
        prop_assume!(carried(&blank, &forward).is_ok());
        let sum = checksums(&carried(&blank, &forward).expect("carried")).1[1];
        for word in [sum, sum.wrapping_sub(1), fill] {
            let frame = datagram([a, b], 64, &word.to_be_bytes());
            if let Ok(carried) = carried(&frame, &forward) {
                let (has, should) = checksums(&carried);
                prop_assert_ne!(has[1], 0);
                prop_assert_eq!(has, should);
            }
        }
    }
}
