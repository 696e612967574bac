//! IPv6 and its extension headers (RFC 8200).

use spectrum_common::{address::Address, reason::Reason};

use super::{Fragment, Kind, Packet, Payload, ensure_within, short};
use crate::packet::Bytes;

const HEADER_LENGTH: u16 = 40;

/// Extension headers that are looked through. Real packets have one or two.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// In the fragment header: the offset in units of 8 bytes, above three bits of which the lowest is
/// "more fragments".
const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 0x0001;

/// Reads the header at `offset` and its extension headers.
///
/// # Errors
/// A header is malformed, or there are too many.
#[inline(always)]
pub(super) fn parse(
    frame: &(impl Bytes + ?Sized),
    offset: usize,
    packet: &mut Packet,
) -> Result<Payload, Reason> {
    packet.kind = Kind::Unaddressed;
    let [version, _, _, _, length_0, length_1, next_header, hops] =
        frame.read(offset).ok_or(Reason::Malformed)?;
    let source = read_address(frame, offset + 8).ok_or(Reason::Malformed)?;
    let destination = read_address(frame, offset + 24).ok_or(Reason::Malformed)?;
    if version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    packet.kind = Kind::Addressed;
    packet.network_offset = short(offset);
    packet.source = source;
    packet.destination = destination;
    packet.protocol = next_header;
    packet.hops = hops;

    let length = u16::from_be_bytes([length_0, length_1]);
    packet.packet_length = length.saturating_add(HEADER_LENGTH);
    let start = offset + usize::from(HEADER_LENGTH);
    let end = start + usize::from(length);
    ensure_within(frame, end, packet)?;
    let start = skip_extensions(frame, start, end, packet)?;
    Ok(Payload { start, end })
}

#[inline(always)]
fn read_address(frame: &(impl Bytes + ?Sized), offset: usize) -> Option<Address> {
    let half = |offset| frame.read(offset).map(u64::from_ne_bytes);
    Some(Address::from_ipv6_be([half(offset)?, half(offset + 8)?]))
}

/// Where the transport header begins, or what follows a fragment header that says there is none.
///
/// # Errors
/// The headers go on beyond the end, or are too many.
#[inline(always)]
fn skip_extensions(
    frame: &(impl Bytes + ?Sized),
    start: usize,
    end: usize,
    packet: &mut Packet,
) -> Result<usize, Reason> {
    let mut offset = start;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(packet.protocol) || packet.fragment == Fragment::Later {
            return Ok(offset);
        }
        let [next_header, length, field_0, field_1] =
            frame.read(offset).ok_or(Reason::Malformed)?;
        let length = usize::from(length);
        offset += match packet.protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        offset = frame.position(offset);
        if offset > end {
            return Err(Reason::Malformed);
        }
        if packet.protocol == FRAGMENT {
            packet.fragment = fragment(u16::from_be_bytes([field_0, field_1]));
        }
        packet.protocol = next_header;
    }
    if is_extension(packet.protocol) && packet.fragment != Fragment::Later {
        return Err(Reason::Malformed);
    }
    Ok(offset)
}

/// A datagram in one piece may still have a fragment header (RFC 6946).
#[inline(always)]
fn fragment(field: u16) -> Fragment {
    match (field & FRAGMENT_OFFSET, field & MORE_FRAGMENTS) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        (_, _) => Fragment::Later,
    }
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}
