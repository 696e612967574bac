//! IPv6 and its extension headers (RFC 8200).

use spectrum_common::address::Address;

use super::{Fragment, Network};
use crate::packet::Bytes;

const HEADER_LENGTH: usize = 40;

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

/// `None` if there is no IPv6 header with a destination.
#[inline(always)]
pub(super) fn parse(frame: &(impl Bytes + ?Sized), offset: usize) -> Option<Network> {
    let [version, _, _, _, payload_0, payload_1, next_header, _hops] = frame.read(offset)?;
    let source = read_address(frame, offset + 8)?;
    let destination = read_address(frame, offset + 24)?;
    if version >> 4 != 6 {
        return None;
    }
    let payload = offset + HEADER_LENGTH;
    let end = payload + usize::from(u16::from_be_bytes([payload_0, payload_1]));
    let mut network = Network {
        source,
        destination,
        protocol: next_header,
        fragment: Fragment::Whole,
        payload,
        end,
        broken: false,
        martian: is_martian(&source),
    };
    network.broken =
        end > frame.length() as usize || skip_extensions(frame, &mut network).is_none();
    Some(network)
}

#[inline(always)]
fn read_address(frame: &(impl Bytes + ?Sized), offset: usize) -> Option<Address> {
    let mut words_be = [0; 4];
    for (index, word) in words_be.iter_mut().enumerate() {
        *word = u32::from_ne_bytes(frame.read(offset + 4 * index)?);
    }
    Some(Address::from_ipv6_be(words_be))
}

/// Goes on to the transport header, or to the fragment header that says there is none.
/// `None` if the headers end before it, or are too many.
#[inline(always)]
fn skip_extensions(frame: &(impl Bytes + ?Sized), network: &mut Network) -> Option<()> {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(network.protocol) {
            return Some(());
        }
        let [next_header, length, field_0, field_1] = frame.read(network.payload)?;
        let units = usize::from(length);
        network.payload += match network.protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if network.payload > network.end {
            return None;
        }
        let is_fragment = network.protocol == FRAGMENT;
        network.protocol = next_header;
        if is_fragment {
            let field = u16::from_be_bytes([field_0, field_1]);
            if field & FRAGMENT_OFFSET != 0 {
                network.fragment = Fragment::Later;
                return Some(());
            }
            if field & MORE_FRAGMENTS != 0 {
                network.fragment = Fragment::First;
            }
        }
    }
    (!is_extension(network.protocol)).then_some(())
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// Unspecified, loopback, multicast, and IPv4-mapped (RFC 6890 §2.2.3), which on the wire is an
/// attempt to look like another protocol's address.
#[inline(always)]
fn is_martian(source: &Address) -> bool {
    let [first, ..] = source.words_be;
    let is_multicast = u32::from_be(first) >> 24 == 0xff;
    let is_low = source.high_bits() == 0 && source.words_be[2] == 0 && source.low_bits() <= 1;
    is_multicast || is_low || source.is_ipv4()
}
