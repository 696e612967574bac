//! What a frame is taken for decides whether a rule sees it at all.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{net::IpAddr, vec, vec::Vec};

use etherparse::{IpFragOffset, IpNumber, Ipv6FragmentHeader, PacketBuilder, SingleVlanHeader};
use proptest::prelude::*;

use super::*;

const SOURCE_V4: [u8; 4] = [198, 51, 100, 7];
const EDGE_V4: [u8; 4] = [192, 0, 2, 1];

fn parsed(frame: &[u8]) -> Packet {
    let mut packet = Packet::default();
    parse(frame, &mut packet);
    packet
}

fn syn_v4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(SOURCE_V4, EDGE_V4, 64);
    let mut frame = Vec::new();
    let builder = builder.tcp(40_000, 443, 1, 1024).syn();
    builder.write(&mut frame, payload).expect("fits");
    frame
}

/// A UDP datagram behind the given extension headers (type and bytes).
fn udp_v6(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let udp = [0x9c, 0x40, 0x01, 0xbb, 0, 12, 0, 0, 1, 2, 3, 4];
    let mut chain: Vec<u8> = Vec::new();
    for (index, (_, bytes)) in extensions.iter().enumerate() {
        let next = extensions
            .get(index + 1)
            .map_or(protocol::UDP, |(kind, _)| *kind);
        chain.push(next);
        chain.extend(bytes);
    }
    chain.extend(udp);
    let first = extensions.first().map_or(protocol::UDP, |(kind, _)| *kind);
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(chain.len()).expect("short").to_be_bytes());
    frame.extend([first, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend(chain);
    frame
}

/// An extension header of 8 bytes without its first one; the same shape serves all types but
/// fragments.
fn options() -> Vec<u8> {
    vec![0; 7]
}

#[test]
fn the_facts_of_a_plain_packet() {
    let frame = syn_v4(b"hello");
    let packet = parsed(&frame);
    assert_eq!(
        packet,
        Packet {
            source: IpAddr::from(SOURCE_V4).into(),
            destination: IpAddr::from(EDGE_V4).into(),
            length: u32::try_from(frame.len()).expect("short"),
            protocol: protocol::TCP,
            fragment: Fragment::Whole,
            has_ports: true,
            tcp_flags: flag::SYN,
            source_port: 40_000,
            destination_port: 443,
            network_offset: 14,
            transport_offset: 34,
            packet_length: 45,
            window: 1024,
            payload_offset: 54,
            payload_length: 5,
            datagram_length: 0,
            kind: Kind::Addressed,
            hops: 64,
            tcp_words: 5,
            defect: None,
        }
    );
    assert!(packet.opens_tcp());
}

/// A bound on datagrams must not be got around by sending them in fragments.
#[test]
fn a_first_fragment_says_how_large_the_datagram_is() {
    let mut frame = udp_v6(&[]);
    frame[14 + 40 + 5] = 13;
    assert_eq!(parsed(&frame).defect, Some(Reason::Malformed));
    let mut frame = udp_v6(&[(44, vec![0, 0, 1, 0, 0, 0, 0])]);
    assert_eq!(parsed(&frame).datagram_length, 4);
    let length = 14 + 40 + 8 + 4;
    frame[length..length + 2].copy_from_slice(&2008_u16.to_be_bytes());
    let packet = parsed(&frame);
    assert_eq!(packet.fragment, Fragment::First);
    assert_eq!((packet.datagram_length, packet.defect), (2000, None));
}

#[test]
fn tags_are_looked_through_twice() {
    let plain = syn_v4(b"");
    for (tags, kind) in [
        (1, Kind::Addressed),
        (2, Kind::Addressed),
        (3, Kind::Foreign),
    ] {
        let mut frame = plain[..12].to_vec();
        for tag in 0..tags {
            frame.extend(if tag == 0 && tags > 1 {
                [0x88, 0xa8]
            } else {
                [0x81, 0x00]
            });
            frame.extend(SingleVlanHeader::default().to_bytes()[..2].to_vec());
        }
        frame.extend(&plain[12..]);
        let packet = parsed(&frame);
        assert_eq!(packet.kind, kind, "{tags} tags");
        if kind == Kind::Addressed {
            let offsets = (packet.network_offset, packet.transport_offset);
            assert_eq!(offsets, (14 + 4 * tags, 34 + 4 * tags));
        }
    }
}

#[test]
fn extension_headers_are_looked_through_up_to_a_bound() {
    for (name, extensions, defect) in [
        ("none", vec![], None),
        ("hop-by-hop", vec![(0, options())], None),
        (
            "routing, options",
            vec![(43, options()), (60, options())],
            None,
        ),
        (
            "long options",
            vec![(60, [vec![2], vec![0; 22]].concat())],
            None,
        ),
        // The length of an authentication header counts words of 4 bytes, minus 2.
        (
            "authentication",
            vec![(51, [vec![1], vec![0; 10]].concat())],
            None,
        ),
        ("seven", vec![(60, options()); 7], Some(Reason::Malformed)),
    ] {
        let frame = udp_v6(&extensions);
        let packet = parsed(&frame);
        assert_eq!(packet.defect, defect, "{name}");
        if defect.is_none() {
            let payload = usize::from(packet.payload_offset);
            assert_eq!(frame[payload..], [1, 2, 3, 4], "{name}");
            assert_eq!(packet.payload_length, 4, "{name}");
            assert_eq!(
                usize::from(packet.packet_length),
                frame.len() - 14,
                "{name}"
            );
        }
        if defect.is_none() {
            assert_eq!(packet.protocol, protocol::UDP, "{name}");
            assert_eq!(packet.destination_port, 443, "{name}");
            let chain: usize = extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum();
            assert_eq!(usize::from(packet.transport_offset), 54 + chain, "{name}");
        }
    }
    assert_eq!(parsed(&udp_v6(&vec![(60, options()); 6])).defect, None);
}

#[test]
fn fragments_are_told_apart() {
    for (offset, more, expected) in [
        (0, false, Fragment::Whole),
        (0, true, Fragment::First),
        (8, true, Fragment::Later),
        (8, false, Fragment::Later),
    ] {
        let mut frame = syn_v4(b"");
        let flags = u16::from(more) << 13 | offset;
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        let packet = parsed(&frame);
        assert_eq!(packet.fragment, expected);
        assert_eq!(packet.has_ports, expected != Fragment::Later);

        let header = Ipv6FragmentHeader::new(
            IpNumber(0),
            IpFragOffset::try_new(offset).expect("small"),
            more,
            7,
        );
        let packet = parsed(&udp_v6(&[(44, header.to_bytes()[1..].to_vec())]));
        assert_eq!(packet.fragment, expected);
        assert_eq!(packet.has_ports, expected != Fragment::Later);
        assert_eq!(packet.protocol, protocol::UDP);
    }
}

/// A later fragment begins with data, whatever its bytes look like.
#[test]
fn nothing_is_read_behind_a_later_fragment() {
    let later = [vec![0, 0, 8], vec![0; 4]].concat();
    let packet = parsed(&udp_v6(&[(44, later), (60, vec![255; 7])]));
    assert_eq!(packet.fragment, Fragment::Later);
    assert_eq!(packet.defect, None);
}

#[test]
fn the_flags_that_a_stack_sends_pass() {
    let legal = [
        flag::SYN,
        flag::SYN | flag::ACK,
        flag::ACK,
        flag::RST,
        flag::RST | flag::ACK,
        flag::FIN | flag::ACK,
        flag::FIN | flag::RST | flag::ACK,
    ];
    for flags in 0..=u8::MAX {
        let mut frame = syn_v4(b"");
        frame[47] = flags;
        let decisive = flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN);
        let expected = (!legal.contains(&decisive)).then_some(Reason::TcpFlags);
        assert_eq!(parsed(&frame).defect, expected, "{flags:#04x}");
    }
}

#[test]
fn sources_that_cannot_be_are_martian() {
    for (source, is_martian) in [
        ("127.0.0.1", true),
        ("0.1.2.3", true),
        ("224.0.0.1", true),
        ("240.0.0.1", true),
        ("255.255.255.255", true),
        ("192.0.2.1", true),
        ("223.255.255.255", false),
        ("10.0.0.1", false),
        ("::", true),
        ("::1", true),
        ("ff02::1", true),
        ("::ffff:198.51.100.7", true),
        ("2001:db8:1::1", true),
        ("::2", false),
        ("fe80::1", false),
        ("fd00::1", false),
    ] {
        let frame = match source.parse().expect(source) {
            IpAddr::V4(ip) => {
                let mut frame = syn_v4(b"");
                frame[26..30].copy_from_slice(&ip.octets());
                frame
            }
            IpAddr::V6(ip) => {
                let mut frame = udp_v6(&[]);
                frame[22..38].copy_from_slice(&ip.octets());
                frame
            }
        };
        let expected = is_martian.then_some(Reason::Martian);
        assert_eq!(parsed(&frame).defect, expected, "{source}");
    }
}

/// A header that lies about a length must not make the parser look elsewhere for the next one.
#[test]
fn lengths_must_agree() {
    type Break = fn(&mut Vec<u8>);
    let tcp: [(&str, Break); 5] = [
        ("IHL below 5", |frame| frame[14] = 0x44),
        ("IHL beyond the packet", |frame| frame[14] = 0x4f),
        ("total length below the header", |frame| frame[17] = 19),
        ("total length beyond the frame", |frame| frame[17] += 1),
        ("data offset below 5", |frame| frame[46] = 0x40),
    ];
    for (name, break_it) in tcp {
        let mut frame = syn_v4(b"");
        break_it(&mut frame);
        assert_eq!(parsed(&frame).defect, Some(Reason::Malformed), "{name}");
    }
    let udp: [(&str, Break); 4] = [
        ("payload length beyond the frame", |frame| frame[19] += 1),
        ("payload length below the header", |frame| frame[19] = 7),
        ("UDP length below 8", |frame| frame[59] = 7),
        ("UDP length beyond the packet", |frame| frame[59] += 1),
    ];
    for (name, break_it) in udp {
        let mut frame = udp_v6(&[]);
        break_it(&mut frame);
        assert_eq!(parsed(&frame).defect, Some(Reason::Malformed), "{name}");
    }
}

#[test]
fn padding_is_no_defect() {
    let mut frame = syn_v4(b"");
    frame.resize(60, 0);
    assert_eq!(parsed(&frame).defect, None);
}

#[test]
fn a_frame_cut_anywhere_is_malformed_once_it_is_ip() {
    for (frame, header_end) in [(syn_v4(b"payload"), 34), (udp_v6(&[(0, options())]), 54)] {
        for length in 0..frame.len() {
            let packet = parsed(&frame[..length]);
            let expected = match length {
                0..14 => (Kind::Foreign, None),
                _ if length < header_end => (Kind::Unaddressed, Some(Reason::Malformed)),
                _ => (Kind::Addressed, Some(Reason::Malformed)),
            };
            assert_eq!((packet.kind, packet.defect), expected, "{length} bytes");
        }
    }
}

/// The frames that nearly all are: TCP and UDP over both families.
fn plain_frames() -> [Vec<u8>; 4] {
    let v6 = ([0x20; 16], [0x21; 16]);
    [true, false]
        .map(|is_tcp| {
            [true, false].map(|is_v4| {
                let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
                let builder = if is_v4 {
                    builder.ipv4(SOURCE_V4, EDGE_V4, 64)
                } else {
                    builder.ipv6(v6.0, v6.1, 64)
                };
                let mut frame = Vec::new();
                let written = if is_tcp {
                    builder
                        .tcp(40_000, 443, 1, 1024)
                        .ack(7)
                        .write(&mut frame, &[7; 9])
                } else {
                    builder.udp(40_000, 443).write(&mut frame, &[7; 9])
                };
                written.expect("fits");
                frame
            })
        })
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .try_into()
        .expect("four")
}

/// The short way is taken, or it would be of no use.
#[test]
fn plain_frames_are_read_at_once() {
    for frame in plain_frames() {
        let mut packet = Packet::default();
        assert!(plain::parse(frame.as_slice(), &mut packet).is_some());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed(
        kind in prop_oneof![Just([8, 0]), Just([0x86, 0xdd]), Just([0x81, 0]), any::<[u8; 2]>()],
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&kind);
        }
        let packet = parsed(&bytes);
        prop_assert_eq!(packet.length as usize, bytes.len());
        prop_assert!(!packet.has_ports || packet.kind == Kind::Addressed);
        prop_assert!(packet.kind != Kind::Unaddressed || packet.defect.is_some());
    }

    /// Two parsers that disagree about a packet would be a hole; and of the packet before, nothing is
    /// left.
    #[test]
    fn both_parsers_say_the_same(
        which in 0_usize..4,
        changes in prop::collection::vec((12_usize..64, any::<u8>()), 0..4),
        length in 0_usize..90,
        is_cut: bool,
        before in any::<[u8; 4]>(),
    ) {
        let mut frame = plain_frames()[which].clone();
        for (at, byte) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        if is_cut {
            frame.resize(length, 0);
        }
        let mut known = Packet::default();
        parse_any(frame.as_slice(), &mut known);
        let mut packet = parsed(&plain_frames()[usize::from(before[0]) % 4]);
        packet.window = u16::from_be_bytes([before[1], before[2]]);
        packet.defect = Some(Reason::Martian);
        parse(frame.as_slice(), &mut packet);
        prop_assert_eq!(packet, known);
    }
}
