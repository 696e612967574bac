//! An answer with a wrong byte is one that no client takes.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::{net::IpAddr, vec::Vec};

use etherparse::{Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptionElement, ip_number};
use proptest::prelude::*;

use super::*;
use crate::parse::protocol;

const TERMS: Handshake = Handshake {
    marked: 1,
    abilities: ability::ANSWER
        | ability::SACK
        | ability::WINDOW_SCALE
        | ability::ECN
        | ability::TIMESTAMPS,
    window: 65_483,
    window_scale: 7,
    segment_ipv4: 1460,
    segment_ipv6: 1440,
    hop_limit: 64,
};

fn syn(source: IpAddr, destination: IpAddr, ecn: bool) -> Packet {
    Packet {
        protocol: protocol::TCP,
        source: source.into(),
        destination: destination.into(),
        source_port: 50_123,
        destination_port: 443,
        tcp_flags: if ecn {
            flag::SYN | flag::ECE | flag::CWR
        } else {
            flag::SYN
        },
        ..Packet::default()
    }
}

fn header(sequence: u32, options: &[TcpOptionElement]) -> Vec<u8> {
    let mut header = TcpHeader::new(50_123, 443, sequence, 64_240);
    header.syn = true;
    header.set_options(options).expect("they fit");
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(64, 0);
    bytes
}

fn read(packet: &Packet, bytes: &[u8]) -> Request {
    let length = usize::from(bytes[12] >> 4) * 4;
    Request::read(packet, bytes, length).expect("a header")
}

/// What a SYN asks for, and what is agreed.
#[derive(Clone, Debug)]
struct Asked {
    ipv6: bool,
    sequence: u32,
    window_scale: Option<u8>,
    sack: bool,
    timestamp: Option<u32>,
    ecn: bool,
    abilities: u32,
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        any::<bool>(),
        any::<u32>(),
        proptest::option::of(0_u8..=16),
        any::<bool>(),
        proptest::option::of(any::<u32>()),
        any::<bool>(),
        any::<u32>(),
    )
        .prop_map(
            |(ipv6, sequence, window_scale, sack, timestamp, ecn, abilities)| Asked {
                ipv6,
                sequence,
                window_scale,
                sack,
                timestamp,
                ecn,
                abilities: TERMS.abilities & abilities,
            },
        )
}

impl Asked {
    fn options(&self) -> Vec<TcpOptionElement> {
        let mut options = Vec::from([TcpOptionElement::MaximumSegmentSize(1400)]);
        options.extend(
            self.sack
                .then_some(TcpOptionElement::SelectiveAcknowledgementPermitted),
        );
        options.extend(
            self.timestamp
                .map(|value| TcpOptionElement::Timestamp(value, 0)),
        );
        options.push(TcpOptionElement::Noop);
        options.extend(self.window_scale.map(TcpOptionElement::WindowScale));
        options
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        let (client, edge) = if self.ipv6 {
            ("2001:db8::7", "2001:db8:1::1")
        } else {
            ("198.51.100.7", "192.0.2.1")
        };
        (client.parse().unwrap(), edge.parse().unwrap())
    }

    /// The same answer by another hand.
    fn expected(&self, reply: &Reply) -> Vec<u8> {
        let (client, edge) = self.ends();
        let stamps = self
            .timestamp
            .filter(|_| self.abilities & ability::TIMESTAMPS != 0);
        let can = |bit: u32| stamps.is_some() && self.abilities & bit != 0;
        let scale = self.window_scale.filter(|_| can(ability::WINDOW_SCALE));
        let sack = self.sack && can(ability::SACK);
        let ecn = self.ecn && can(ability::ECN);

        let mut answer = TcpHeader::new(443, 50_123, reply.cookie.sequence, 0);
        answer.syn = true;
        answer.ack = true;
        answer.ece = ecn;
        answer.acknowledgment_number = self.sequence.wrapping_add(1);
        answer.window_size = 1448 * 45;
        let mut options = Vec::from([TcpOptionElement::MaximumSegmentSize(if self.ipv6 {
            1440
        } else {
            1460
        })]);
        if let Some(echo) = stamps {
            let bits = scale.map_or(15, |scale| u32::from(scale.min(14)))
                + 16 * u32::from(sack)
                + 32 * u32::from(ecn);
            let now = reply.cookie.milliseconds as u32;
            let back = (0..64)
                .find(|back| now.wrapping_sub(*back) % 64 == bits)
                .unwrap();
            if sack {
                options.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
            } else {
                options.extend([TcpOptionElement::Noop, TcpOptionElement::Noop]);
            }
            options.push(TcpOptionElement::Timestamp(now.wrapping_sub(back), echo));
        }
        if scale.is_some() {
            options.extend([TcpOptionElement::Noop, TcpOptionElement::WindowScale(7)]);
        }
        answer.set_options(&options).expect("they fit");
        let mut bytes = Vec::new();
        let length = answer.header_len_u16();
        match (edge, client) {
            (IpAddr::V4(edge), IpAddr::V4(client)) => {
                let (edge, client) = (edge.octets(), client.octets());
                let mut ip = Ipv4Header::new(length, 64, ip_number::TCP, edge, client).unwrap();
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                answer.checksum = answer.calc_checksum_ipv4(&ip, &[]).unwrap();
                ip.write(&mut bytes).unwrap();
            }
            (IpAddr::V6(edge), IpAddr::V6(client)) => {
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: length,
                    next_header: ip_number::TCP,
                    hop_limit: 64,
                    source: edge.octets(),
                    destination: client.octets(),
                };
                answer.checksum = answer.calc_checksum_ipv6(&ip, &[]).unwrap();
                ip.write(&mut bytes).unwrap();
            }
            _ => unreachable!("one family"),
        }
        answer.write(&mut bytes).unwrap();
        bytes
    }
}

proptest! {
    /// Byte for byte what another implementation makes of the same SYN.
    #[test]
    fn an_answer_is_what_it_should_be(
        asked in asked(),
        sequence in any::<u32>(),
        milliseconds in any::<u64>(),
    ) {
        let (client, edge) = asked.ends();
        let packet = syn(client, edge, asked.ecn);
        let reply = Reply {
            request: read(&packet, &header(asked.sequence, &asked.options())),
            cookie: Cookie { sequence, segment: 1448, milliseconds },
        };
        let terms = Handshake { abilities: asked.abilities, ..TERMS };
        let mut segment = [1; MAX_ANSWER_LENGTH];
        let length = write_segment(&mut segment, &packet, &reply, &terms);
        let mut bytes = Vec::new();
        if asked.ipv6 {
            let mut header = [1; IPV6_HEADER_LENGTH];
            write_ipv6_header(&mut header, &packet, &terms, length);
            bytes.extend(header);
        } else {
            let mut header = [1; IPV4_HEADER_LENGTH];
            write_ipv4_header(&mut header, &packet, &terms, length);
            bytes.extend(header);
        }
        let (sent, rest) = segment.split_at(length.into());
        bytes.extend(sent);
        prop_assert_eq!(bytes, asked.expected(&reply));
        prop_assert!(rest.iter().all(|byte| *byte == 0));
    }

    /// Nothing in a header can make it more than a SYN with strange wishes.
    #[test]
    fn any_options_are_read(bytes in proptest::collection::vec(any::<u8>(), 64), words in 5_usize..=15) {
        let packet = syn("198.51.100.7".parse().unwrap(), "192.0.2.1".parse().unwrap(), false);
        let request = Request::read(&packet, bytes.as_slice(), words * 4).unwrap();
        prop_assert!(request.window_scale <= 14);
        prop_assert!(request.abilities & !TERMS.abilities == 0);
    }
}

#[test]
fn options_end_where_they_should() {
    let packet = syn(
        "198.51.100.7".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
        false,
    );
    let mut bytes = [0; 64];
    bytes[12] = 8 << 4;
    let mut with = |options: [u8; 12]| {
        bytes[20..32].copy_from_slice(&options);
        read(&packet, &bytes)
    };
    let sack = ability::SACK;
    assert_eq!(
        with([4, 2, 0, 3, 3, 7, 0, 0, 0, 0, 0, 0]).abilities,
        sack,
        "after the end"
    );
    assert_eq!(
        with([4, 2, 3, 0, 1, 1, 1, 1, 1, 1, 1, 1]).abilities,
        sack,
        "without a length"
    );
    assert_eq!(
        with([4, 2, 1, 1, 1, 8, 10, 0, 0, 0, 0, 0]).abilities,
        sack,
        "cut short"
    );
}

#[test]
fn the_window_is_whole_segments_of_what_there_is() {
    let with = |window| Handshake { window, ..TERMS };
    assert_eq!(window(&with(65_536), 1460), 64_240);
    assert_eq!(window(&with(65_536), 536), 65_392);
    assert_eq!(window(&with(1_000_000), 1460), u16::MAX);
    assert_eq!(window(&with(1000), 1460), 1000);
    assert_eq!(window(&with(1000), 0), 1000);
}

/// An answer that the kernel takes for a stray segment is worse than none.
#[test]
fn nothing_is_answered_unless_listeners_were_marked_lately() {
    const TICKS: u32 = 250;
    let ready = Handshake {
        marked: 1000,
        abilities: ability::ANSWER,
        ..Handshake::default()
    };
    let lasts = u64::from(MARK_SECONDS * TICKS);
    assert!(can_answer(&ready, 1000 + lasts - 1, TICKS));
    assert!(!can_answer(&ready, 1000 + lasts, TICKS));
    assert!(!can_answer(&Handshake { marked: 0, ..ready }, 1001, TICKS));
    let unable = Handshake {
        abilities: ability::SACK,
        ..ready
    };
    assert!(!can_answer(&unable, 1001, TICKS));
}
