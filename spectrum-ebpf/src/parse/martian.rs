//! Sources that cannot be one (RFC 6890 §2.2).

use spectrum_common::address::Address;

/// IPv4: this network, loopback, multicast, reserved, broadcast. IPv6: unspecified, loopback,
/// multicast.
#[inline(always)]
pub(super) fn is_martian(source: &Address) -> bool {
    if source.is_ipv4() {
        return is_martian_v4(source.low_bits().to_be());
    }
    let [high, low] = source.halves();
    high == 0 && low <= 1 || high >> 56 == 0xff
}

/// The same of an IPv4 address, as a native word in network byte order.
#[inline(always)]
pub(super) const fn is_martian_v4(word_be: u32) -> bool {
    let [first, ..] = word_be.to_ne_bytes();
    first == 0 || first == 127 || first >= 224
}
