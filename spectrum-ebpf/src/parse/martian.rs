//! Sources that cannot be one (RFC 6890 §2.2).

use spectrum_common::address::Address;

/// IPv4: this network, loopback, multicast, reserved, broadcast. IPv6: unspecified, loopback,
/// multicast.
#[inline(always)]
pub(super) fn is_martian(source: &Address) -> bool {
    if source.is_ipv4() {
        let [first, ..] = source.low_bits().to_be_bytes();
        return first == 0 || first == 127 || first >= 224;
    }
    let [first, second, third, _] = source.words_be;
    let is_low = first == 0 && second == 0 && third == 0 && source.low_bits() <= 1;
    is_low || u32::from_be(first) >> 24 == 0xff
}
