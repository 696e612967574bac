//! The shape that nearly all packets have: no VLAN tag, no IP options or extension headers, not
//! fragmented, TCP or UDP, and nothing wrong. A few comparisons tell it, at offsets that are constants.
//!
//! What is not certain here is left to the parser that knows every shape. Of a packet that both can
//! read, both say the same.

use spectrum_common::address::Address;

use super::{Fragment, Kind, Packet, ethernet, martian, protocol, short, transport};
use crate::packet::{Bytes, Window};

/// Where the IP header begins.
const NETWORK: usize = 14;
const IPV4_LENGTH: u16 = 20;
const IPV6_LENGTH: u16 = 40;
const TCP_LENGTH: u16 = 20;
const UDP_LENGTH: u16 = 8;

/// "More fragments", and the offset of a fragment.
const FRAGMENTED: u16 = 0x3fff;

/// Reads the headers of a packet of that shape. `None` of any other, of which `packet` says nothing
/// then.
#[inline(always)]
pub(super) fn parse(frame: &(impl Bytes + ?Sized), packet: &mut Packet) -> Option<()> {
    let start = frame.window::<3>(NETWORK - 2)?;
    let [version] = start.part::<2, 1>();
    match (u16::from_be_bytes(start.part::<0, 2>()), version) {
        (ethernet::IPV4, 0x45) => ipv4(frame, packet),
        (ethernet::IPV6, 0x60..=0x6f) => ipv6(frame, packet),
        _ => None,
    }
}

#[inline(always)]
fn ipv4(frame: &(impl Bytes + ?Sized), packet: &mut Packet) -> Option<()> {
    const TRANSPORT: usize = NETWORK + IPV4_LENGTH as usize;
    let header = frame.window::<{ IPV4_LENGTH as usize }>(NETWORK)?;
    let source = u32::from_ne_bytes(header.part::<12, 4>());
    let destination = u32::from_ne_bytes(header.part::<16, 4>());
    let is_fragment = u16::from_be_bytes(header.part::<6, 2>()) & FRAGMENTED != 0;
    if is_fragment || source == destination || martian::is_martian_v4(source) {
        return None;
    }
    let length = u16::from_be_bytes(header.part::<2, 2>());
    let payload_length = length.checked_sub(IPV4_LENGTH)?;
    let [protocol] = header.part::<9, 1>();
    [packet.hops] = header.part::<8, 1>();
    packet.source = Address::from_ipv4_be(source);
    packet.destination = Address::from_ipv4_be(destination);
    packet.packet_length = length;
    transport::<TRANSPORT>(frame, protocol, payload_length, packet)
}

#[inline(always)]
fn ipv6(frame: &(impl Bytes + ?Sized), packet: &mut Packet) -> Option<()> {
    const TRANSPORT: usize = NETWORK + IPV6_LENGTH as usize;
    let header = frame.window::<{ IPV6_LENGTH as usize }>(NETWORK)?;
    let source = Address::from_ipv6_be([
        u64::from_ne_bytes(header.part::<8, 8>()),
        u64::from_ne_bytes(header.part::<16, 8>()),
    ]);
    let destination = Address::from_ipv6_be([
        u64::from_ne_bytes(header.part::<24, 8>()),
        u64::from_ne_bytes(header.part::<32, 8>()),
    ]);
    if source.is_ipv4() || source == destination || martian::is_martian(&source) {
        return None;
    }
    let payload_length = u16::from_be_bytes(header.part::<4, 2>());
    let [protocol] = header.part::<6, 1>();
    [packet.hops] = header.part::<7, 1>();
    packet.source = source;
    packet.destination = destination;
    packet.packet_length = payload_length.checked_add(IPV6_LENGTH)?;
    transport::<TRANSPORT>(frame, protocol, payload_length, packet)
}

/// Reads the header at `START`, after an IP header that says that `length` bytes follow.
#[inline(always)]
fn transport<const START: usize>(
    frame: &(impl Bytes + ?Sized),
    protocol: u8,
    length: u16,
    packet: &mut Packet,
) -> Option<()> {
    packet.length = frame.first_length();
    if u32::from(short(START)) + u32::from(length) > packet.length {
        return None;
    }
    packet.protocol = protocol;
    packet.fragment = Fragment::Whole;
    packet.has_ports = true;
    packet.network_offset = short(NETWORK);
    packet.transport_offset = short(START);
    packet.kind = Kind::Addressed;
    packet.defect = None;
    match protocol {
        protocol::TCP => tcp::<START>(frame, length, packet),
        protocol::UDP => udp::<START>(frame, length, packet),
        _ => None,
    }
}

#[inline(always)]
fn tcp<const START: usize>(
    frame: &(impl Bytes + ?Sized),
    length: u16,
    packet: &mut Packet,
) -> Option<()> {
    let header = frame.window::<16>(START)?;
    let [offset, flags] = header.part::<12, 2>();
    let words = offset >> 4;
    let header_length = u16::from(words) * 4;
    if header_length < TCP_LENGTH || header_length > length || transport::is_impossible(flags) {
        return None;
    }
    packet.tcp_flags = flags;
    packet.tcp_words = words;
    packet.source_port = u16::from_be_bytes(header.part::<0, 2>());
    packet.destination_port = u16::from_be_bytes(header.part::<2, 2>());
    packet.window = u16::from_be_bytes(header.part::<14, 2>());
    packet.payload_offset = short(START) + header_length;
    packet.payload_length = length - header_length;
    packet.datagram_length = 0;
    Some(())
}

#[inline(always)]
fn udp<const START: usize>(
    frame: &(impl Bytes + ?Sized),
    length: u16,
    packet: &mut Packet,
) -> Option<()> {
    let header = frame.window::<6>(START)?;
    let datagram_length = u16::from_be_bytes(header.part::<4, 2>());
    if datagram_length < UDP_LENGTH || datagram_length > length {
        return None;
    }
    packet.tcp_flags = 0;
    packet.tcp_words = 0;
    packet.source_port = u16::from_be_bytes(header.part::<0, 2>());
    packet.destination_port = u16::from_be_bytes(header.part::<2, 2>());
    packet.window = 0;
    packet.payload_offset = short(START) + UDP_LENGTH;
    packet.payload_length = length - UDP_LENGTH;
    packet.datagram_length = datagram_length - UDP_LENGTH;
    Some(())
}
