//! The arithmetic of Internet checksums (RFC 1071).

/// A sum of words in 16 bits, with the carries added. Its complement is the checksum, in the order of
/// bytes in which the words were.
#[inline(always)]
pub(crate) const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    let folded = sum as u16;
    folded
}
