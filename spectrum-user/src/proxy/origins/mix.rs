//! Numbers that look random and are the same on every host.

/// Mixes all bits: the output function of SplitMix64 (Steele, Lea, Flood 2014).
pub(super) fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ key >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ key >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ key >> 31
}

/// `key` reduced to a number below `bound`, which is not 0.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the result is below the bound, which is a usize"
)]
pub(super) fn below(key: u64, bound: usize) -> usize {
    (key % bound.max(1) as u64) as usize
}
