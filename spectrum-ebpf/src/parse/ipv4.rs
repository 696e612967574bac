//! IPv4 (RFC 791).

use spectrum_common::address::Address;

use super::{Fragment, Network};
use crate::packet::Bytes;

const HEADER_LENGTH: usize = 20;

/// "More fragments", and the offset in units of 8 bytes.
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// `None` if there is no IPv4 header with a destination.
#[inline(always)]
pub(super) fn parse(frame: &(impl Bytes + ?Sized), offset: usize) -> Option<Network> {
    let [
        version_length,
        _service,
        total_0,
        total_1,
        _,
        _,
        fragment_0,
        fragment_1,
        _ttl,
        protocol,
        _,
        _,
        source @ ..,
    ] = frame.read::<16>(offset)?;
    let destination = frame.read::<4>(offset + 16)?;
    if version_length >> 4 != 4 {
        return None;
    }
    let header_length = usize::from(version_length & 0xf) * 4;
    let total_length = usize::from(u16::from_be_bytes([total_0, total_1]));
    let source = u32::from_ne_bytes(source);
    Some(Network {
        source: Address::from_ipv4_be(source),
        destination: Address::from_ipv4_be(u32::from_ne_bytes(destination)),
        protocol,
        fragment: fragment(u16::from_be_bytes([fragment_0, fragment_1])),
        payload: offset + header_length,
        end: offset + total_length,
        broken: header_length < HEADER_LENGTH
            || total_length < header_length
            || offset + total_length > frame.length() as usize,
        martian: is_martian(u32::from_be(source)),
    })
}

#[inline(always)]
fn fragment(field: u16) -> Fragment {
    match (field & FRAGMENT_OFFSET, field & MORE_FRAGMENTS) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        (_, _) => Fragment::Later,
    }
}

/// "This network", loopback, multicast, reserved and broadcast (RFC 6890 §2.2.2).
#[inline(always)]
fn is_martian(source: u32) -> bool {
    let [first, ..] = source.to_be_bytes();
    first == 0 || first == 127 || first >= 224
}
