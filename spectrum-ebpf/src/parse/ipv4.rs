//! IPv4 (RFC 791).

use spectrum_common::{address::Address, reason::Reason};

use super::{Fragment, Kind, Packet, Payload, ensure_within, short};
use crate::packet::Bytes;

const HEADER_LENGTH: usize = 20;

/// "More fragments", and the offset in units of 8 bytes.
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the header at `offset`.
///
/// # Errors
/// The header is malformed.
#[inline(always)]
pub(super) fn parse(
    frame: &(impl Bytes + ?Sized),
    offset: usize,
    packet: &mut Packet,
) -> Result<Payload, Reason> {
    packet.kind = Kind::Unaddressed;
    let header: [u8; HEADER_LENGTH] = frame.read(offset).ok_or(Reason::Malformed)?;
    #[rustfmt::skip]
    let [
        version_length, _service, total_0, total_1,
        _, _, fragment_0, fragment_1,
        hops, protocol, _, _,
        source_0, source_1, source_2, source_3,
        destination_0, destination_1, destination_2, destination_3,
    ] = header;
    if version_length >> 4 != 4 {
        return Err(Reason::Malformed);
    }
    packet.kind = Kind::Addressed;
    packet.network_offset = short(offset);
    packet.source = address([source_0, source_1, source_2, source_3]);
    packet.destination = address([destination_0, destination_1, destination_2, destination_3]);
    packet.protocol = protocol;
    packet.hops = hops;
    packet.packet_length = u16::from_be_bytes([total_0, total_1]);
    packet.fragment = fragment(u16::from_be_bytes([fragment_0, fragment_1]));

    let header_length = usize::from(version_length & 0xf) * 4;
    let total_length = usize::from(packet.packet_length);
    let end = offset + total_length;
    if header_length < HEADER_LENGTH || header_length > total_length {
        return Err(Reason::Malformed);
    }
    ensure_within(frame, end, packet)?;
    Ok(Payload {
        start: frame.position(offset + header_length),
        end,
    })
}

#[inline(always)]
fn address(bytes: [u8; 4]) -> Address {
    Address::from_ipv4_be(u32::from_ne_bytes(bytes))
}

#[inline(always)]
fn fragment(field: u16) -> Fragment {
    match (field & FRAGMENT_OFFSET, field & MORE_FRAGMENTS) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        (_, _) => Fragment::Later,
    }
}
