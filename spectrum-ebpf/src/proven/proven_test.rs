//! A source that is forgotten loses its precedence in a flood; one that is mistaken for another
//! gets it without a proof.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{net::IpAddr, vec::Vec};

use proptest::prelude::*;
use spectrum_common::proven::WAYS;

use super::*;

const APP: [u8; 16] = [7; 16];

fn place(source: IpAddr, app: &[u8; 16]) -> Place {
    Place::new(&source.into(), app, 0x5eed)
}

fn prove(set: &mut ProvenSet, place: &Place, epoch: u32) {
    if let Some(Change { way, entry }) = place.prove(set, epoch) {
        set.entries[way] = entry;
    }
}

/// Sources, all of which lead to the set of the first.
fn neighbours(count: usize) -> Vec<Place> {
    let all = (0_u32..).map(|bits| place(IpAddr::from(bits.to_be_bytes()), &APP));
    all.filter(|place| place.set_index() == 5)
        .take(count)
        .collect()
}

proptest! {
    #[test]
    fn an_ipv4_address_or_an_ipv6_network_is_one_source(bits in 1_u128 << 96.., host: u64, id: [u8; 16]) {
        let of = |bits: u128| place(IpAddr::from(bits.to_be_bytes()), &id);
        let sibling = bits >> 64 << 64 | u128::from(host);
        prop_assert_eq!(of(bits), of(sibling));
        prop_assert_ne!(of(bits), of(bits ^ 1 << 64));
        prop_assert!(of(bits).set_index() < SETS);
    }

    /// No other address of the same app, and no other app of the same address.
    #[test]
    fn a_proof_is_good_for_one_source_at_one_app(one: [u8; 4], other: [u8; 4], id: [u8; 16]) {
        prop_assume!(one != other && id != APP);
        let mut set = ProvenSet::default();
        let proved = place(one.into(), &APP);
        prove(&mut set, &proved, 3);
        prop_assert!(proved.is_proven(&set, 3));
        prop_assert!(!place(other.into(), &APP).is_proven(&set, 3));
        prop_assert!(!place(one.into(), &id).is_proven(&set, 3));
    }

    /// Also at the end of the short clock.
    #[test]
    fn a_proof_holds_for_its_time(epoch: u32, later in 0_u32..60_000) {
        let mut set = ProvenSet::default();
        let source = place([192, 0, 2, 1].into(), &APP);
        prove(&mut set, &source, epoch);
        let holds = source.is_proven(&set, epoch.wrapping_add(later));
        prop_assert_eq!(holds, later <= u32::from(PROOF_EPOCHS));
    }
}

#[test]
fn the_oldest_proof_makes_room() {
    let mut set = ProvenSet::default();
    let sources = neighbours(WAYS + 2);
    let (last, rest) = sources.split_last().expect("some");
    let (late, first) = rest.split_last().expect("some");
    for (source, epoch) in first.iter().zip(10..) {
        prove(&mut set, source, epoch);
    }
    // The first is proved again: the second is the oldest now, and then the third.
    prove(&mut set, &first[0], 20);
    prove(&mut set, late, 21);
    prove(&mut set, last, 21);
    let proven: Vec<_> = sources
        .iter()
        .map(|source| source.is_proven(&set, 21))
        .collect();
    let expected: Vec<_> = (0..sources.len())
        .map(|index| index != 1 && index != 2)
        .collect();
    assert_eq!(proven, expected);
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let mut set = ProvenSet::default();
    let source = place([192, 0, 2, 1].into(), &APP);
    prove(&mut set, &source, 3);
    assert_eq!(source.prove(&set, 3), None);
    prove(&mut set, &source, 4);
    assert_eq!(set.entries.iter().filter(|&&entry| entry != 0).count(), 1);
}

#[test]
fn a_connection_lasts_until_it_is_removed() {
    let mut set = ProvenSet::default();
    let sources = neighbours(WAYS + 1);
    let (last, first) = sources.split_last().expect("some");
    for _twice in 0..2 {
        for source in first {
            let Change { way, entry } = source.insert(&set).expect("room");
            set.entries[way] = entry;
        }
    }
    assert!(first.iter().all(|source| source.is_in(&set)));
    assert_eq!(last.insert(&set), None, "nobody is pushed out");
    assert_eq!(last.remove(&set), None);

    let Change { way, entry } = first[3].remove(&set).expect("it is there");
    set.entries[way] = entry;
    assert!(!first[3].is_in(&set));
    assert_eq!(last.insert(&set).map(|change| change.way), Some(way));
}
