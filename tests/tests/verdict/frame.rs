//! Frames for the tables: valid ones from etherparse, and small changes that break them.

use std::net::IpAddr;

use etherparse::{PacketBuilder, VlanId};

/// Where the IP header begins in a frame without tags.
pub(crate) const IP: usize = 14;
/// Where the transport header begins after an IPv4 header without options.
pub(crate) const AFTER_IPV4: usize = IP + 20;
/// Where whatever follows the IPv6 header begins.
pub(crate) const AFTER_IPV6: usize = IP + 40;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE_CWR: u8 = 0xc0;

const TTL: u8 = 64;
pub(crate) const CLIENT_PORT: u16 = 40_000;

fn ip(from: &str, to: &str) -> (IpAddr, IpAddr) {
    (from.parse().expect(from), to.parse().expect(to))
}

/// A TCP segment from `from` to `to`, with the given flags.
pub(crate) fn tcp(from: &str, to: &str, port: u16, flags: u8) -> Vec<u8> {
    let (from, to) = ip(from, to);
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), TTL),
        _ => panic!("one family"),
    };
    let segment = ip.tcp(CLIENT_PORT, port, 1, 65_535);
    let mut frame = Vec::new();
    segment.write(&mut frame, b"payload").expect("a frame");
    let transport = if from.is_ipv4() {
        AFTER_IPV4
    } else {
        AFTER_IPV6
    };
    frame[transport + 13] = flags;
    frame
}

/// The first segment of a connection.
pub(crate) fn syn(from: &str, to: &str, port: u16) -> Vec<u8> {
    tcp(from, to, port, SYN)
}

pub(crate) fn udp(from: &str, to: &str, port: u16) -> Vec<u8> {
    udp_from(from, CLIENT_PORT, to, port)
}

/// A UDP datagram from a port of choice.
pub(crate) fn udp_from(from: &str, source_port: u16, to: &str, port: u16) -> Vec<u8> {
    udp_with(from, source_port, to, port, b"payload")
}

/// A UDP datagram of `length` bytes.
pub(crate) fn long_udp(from: &str, to: &str, port: u16, length: usize) -> Vec<u8> {
    udp_with(from, CLIENT_PORT, to, port, &vec![0x5a; length])
}

/// With another length in the header of UDP (over IPv4 without options).
pub(crate) fn with_udp_length(mut frame: Vec<u8>, length: u16) -> Vec<u8> {
    set_u16(&mut frame, AFTER_IPV4 + 4, |_| length);
    frame
}

fn udp_with(from: &str, source_port: u16, to: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ip(from, to);
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), TTL),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    let datagram = ip.udp(source_port, port);
    datagram.write(&mut frame, payload).expect("a frame");
    frame
}

pub(crate) fn ping(from: &str, to: &str) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = ip(from, to) else {
        panic!("IPv4");
    };
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let echo = link
        .ipv4(from.octets(), to.octets(), TTL)
        .icmpv4_echo_request(1, 1);
    let mut frame = Vec::new();
    echo.write(&mut frame, b"payload").expect("a frame");
    frame
}

/// Neither IPv4 nor IPv6.
pub(crate) fn arp() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

/// With one byte changed.
pub(crate) fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    frame
}

/// Cut to a length.
pub(crate) fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// With bytes after the packet, as short Ethernet frames have them.
pub(crate) fn padded(mut frame: Vec<u8>, by: usize) -> Vec<u8> {
    frame.resize(frame.len() + by, 0);
    frame
}

/// With a VLAN tag in front: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
pub(crate) fn tagged(mut frame: Vec<u8>, kind: u16) -> Vec<u8> {
    let id = VlanId::try_new(100).expect("a VLAN").value().to_be_bytes();
    let [high, low] = kind.to_be_bytes();
    frame.splice(12..12, [high, low, id[0], id[1]]);
    frame
}

/// IPv4 with `words` of options (no-operation).
pub(crate) fn with_options(mut frame: Vec<u8>, words: u8) -> Vec<u8> {
    let bytes = usize::from(words) * 4;
    frame[IP] += words;
    set_u16(&mut frame, IP + 2, |length| length + bytes as u16);
    frame.splice(AFTER_IPV4..AFTER_IPV4, vec![1; bytes]);
    frame
}

/// IPv4 as a fragment: offset in bytes, and whether more follow.
pub(crate) fn fragment(mut frame: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    let more = if more { 0x2000 } else { 0 };
    let field = (offset / 8) | more;
    set_u16(&mut frame, IP + 6, |_| field);
    frame
}

/// IPv6 with extension headers before the transport header: their numbers, the first outermost.
/// Each is eight bytes long.
pub(crate) fn with_extensions(mut frame: Vec<u8>, headers: &[u8]) -> Vec<u8> {
    for &header in headers.iter().rev() {
        let next = frame[IP + 6];
        frame[IP + 6] = header;
        // Authentication counts in units of four bytes, minus two.
        let length = 0;
        frame.splice(AFTER_IPV6..AFTER_IPV6, [next, length, 0, 0, 0, 0, 0, 0]);
        set_u16(&mut frame, IP + 4, |length| length + 8);
    }
    frame
}

/// IPv6 with a fragment header: offset in bytes, and whether more follow.
pub(crate) fn fragment_v6(frame: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    let mut frame = with_extensions(frame, &[44]);
    set_u16(&mut frame, AFTER_IPV6 + 2, |_| {
        offset & 0xfff8 | u16::from(more)
    });
    frame
}

pub(crate) fn set_u16(frame: &mut [u8], at: usize, value: impl Fn(u16) -> u16) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&value(old).to_be_bytes());
}
