//! Ethernet II, IEEE 802.1Q and 802.1ad.

use crate::packet::Bytes;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// Tags that are looked through: one of the customer, one of the carrier.
const MAX_TAGS: usize = 2;

/// Two addresses, which nobody here asks for, come before the type.
const TYPE_OFFSET: usize = 12;
const TAG_LENGTH: usize = 4;

/// The type of the payload and where it begins, or `None` if the frame ends before.
#[inline(always)]
pub(super) fn parse(frame: &(impl Bytes + ?Sized)) -> Option<(u16, usize)> {
    let mut offset = TYPE_OFFSET;
    let mut kind = u16::from_be_bytes(frame.read(offset)?);
    for _ in 0..MAX_TAGS {
        if kind != VLAN && kind != SERVICE_VLAN {
            break;
        }
        offset += TAG_LENGTH;
        kind = u16::from_be_bytes(frame.read(offset)?);
    }
    Some((kind, frame.position(offset + size_of::<u16>())))
}
