//! Edge addresses: where one lies among the sets of the map `edges`.

use spectrum_common::{
    address::Address,
    edge::{Edge, EdgeSet},
    maps::size::EDGE_SETS,
};

/// The sets in which an address may lie: the first, or the second if the first is full. The bits
/// of the hash need no seed: who chooses edge addresses attacks nobody but himself.
#[inline(always)]
pub const fn sets(address: &Address) -> [u32; 2] {
    const BITS: u32 = EDGE_SETS.trailing_zeros();
    let [high, low] = address.halves();
    let hash = (high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mask = (1 << BITS) - 1;
    [
        (hash >> (u64::BITS - BITS)) as u32,
        (hash >> (u64::BITS - 2 * BITS)) as u32 & mask,
    ]
}

/// The edge at `address`, of a set that may hold it.
#[inline(always)]
pub fn find(set: &EdgeSet, address: &Address) -> Option<Edge> {
    let mut places = set.addresses.iter().zip(&set.edges);
    places
        .find(|(other, _)| *other == address)
        .map(|(_, edge)| *edge)
}

/// Has the set no place left, so that others may lie in their second set?
#[inline(always)]
pub fn is_full(set: &EdgeSet) -> bool {
    let [.., last] = set.addresses;
    last != Address::default()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Addresses of one host differ in a few bits; they must not crowd one set.
    #[test]
    fn neighbours_lie_in_different_sets() {
        let mut counts = std::vec![0; EDGE_SETS];
        for number in 0..1024_u32 {
            let address = Address::from_ipv4_be((0xc000_0200 + number).to_be());
            for set in sets(&address) {
                *counts.get_mut(set as usize).expect("a set") += 1;
            }
        }
        assert!(counts.iter().all(|count| *count < 8), "{counts:?}");
    }
}
