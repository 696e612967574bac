//! TCP (RFC 9293) and UDP (RFC 768), as far as the policy looks.

use spectrum_common::reason::Reason;

use super::{Fragment, Packet, Payload, flag, protocol, short};
use crate::packet::Bytes;

const TCP_HEADER_LENGTH: usize = 20;
const UDP_HEADER_LENGTH: usize = 8;

/// Reads the header of the transport, if there is one.
///
/// # Errors
/// The header is malformed, or its flags are impossible.
#[inline(always)]
pub(super) fn parse(
    frame: &(impl Bytes + ?Sized),
    payload: &Payload,
    packet: &mut Packet,
) -> Result<(), Reason> {
    match packet.protocol {
        _ if packet.fragment == Fragment::Later => Ok(()),
        protocol::TCP => parse_tcp(frame, payload, packet),
        protocol::UDP => parse_udp(frame, payload, packet),
        _ => Ok(()),
    }
}

#[inline(always)]
fn parse_tcp(
    frame: &(impl Bytes + ?Sized),
    payload: &Payload,
    packet: &mut Packet,
) -> Result<(), Reason> {
    if payload.start + TCP_HEADER_LENGTH > payload.end {
        return Err(Reason::Malformed);
    }
    let [
        source_0,
        source_1,
        destination_0,
        destination_1,
        ..,
        offset,
        tcp_flags,
        window_0,
        window_1,
    ] = frame.read::<16>(payload.start).ok_or(Reason::Malformed)?;
    packet.has_ports = true;
    packet.transport_offset = short(payload.start);
    packet.tcp_flags = tcp_flags;
    packet.source_port = u16::from_be_bytes([source_0, source_1]);
    packet.destination_port = u16::from_be_bytes([destination_0, destination_1]);

    packet.window = u16::from_be_bytes([window_0, window_1]);
    packet.tcp_words = offset >> 4;

    let header_length = usize::from(packet.tcp_words) * 4;
    if header_length < TCP_HEADER_LENGTH || payload.start + header_length > payload.end {
        return Err(Reason::Malformed);
    }
    payload.note(header_length, packet);
    if is_impossible(tcp_flags) {
        return Err(Reason::TcpFlags);
    }
    Ok(())
}

#[inline(always)]
fn parse_udp(
    frame: &(impl Bytes + ?Sized),
    payload: &Payload,
    packet: &mut Packet,
) -> Result<(), Reason> {
    if payload.start + UDP_HEADER_LENGTH > payload.end {
        return Err(Reason::Malformed);
    }
    let [
        source_0,
        source_1,
        destination_0,
        destination_1,
        length_0,
        length_1,
    ] = frame.read(payload.start).ok_or(Reason::Malformed)?;
    packet.has_ports = true;
    packet.transport_offset = short(payload.start);
    packet.source_port = u16::from_be_bytes([source_0, source_1]);
    packet.destination_port = u16::from_be_bytes([destination_0, destination_1]);
    payload.note(UDP_HEADER_LENGTH, packet);

    let length = usize::from(u16::from_be_bytes([length_0, length_1]));
    #[expect(clippy::cast_possible_truncation, reason = "it was 16 bits before")]
    let carried = length.saturating_sub(UDP_HEADER_LENGTH) as u16;
    packet.datagram_length = carried;
    // The length counts the whole datagram, of which a first fragment is only the beginning.
    let is_cut = packet.fragment == Fragment::Whole && payload.start + length > payload.end;
    if length < UDP_HEADER_LENGTH || is_cut {
        return Err(Reason::Malformed);
    }
    Ok(())
}

/// Flags that no segment has: a bit for each combination of the lowest five.
const IMPOSSIBLE: u32 = {
    let mut bits = 0;
    let mut flags = 0;
    while flags < 32 {
        if is_contradiction(flags) {
            bits |= 1 << flags;
        }
        flags += 1;
    }
    bits
};

/// Every segment carries SYN, ACK or RST; a SYN neither ends nor resets; a FIN acknowledges.
/// PSH, URG and the two bits of ECN say nothing here.
const fn is_contradiction(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::RST) == 0
        || flags & flag::SYN != 0 && flags & (flag::FIN | flag::RST) != 0
        || flags & (flag::FIN | flag::ACK) == flag::FIN
}

#[inline(always)]
pub(super) const fn is_impossible(flags: u8) -> bool {
    IMPOSSIBLE >> (flags & 31) & 1 != 0
}
