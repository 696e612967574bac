//! What user space writes is where the program looks for it. That both find the right entry is
//! tested with the table itself, in `spectrum-user`.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::HashSet, net::Ipv6Addr};

use proptest::prelude::*;
use spectrum_common::access::{FILTER_WORDS, NEAR_WORDS_V4, REGION_WORDS_V4, REGION_WORDS_V6};

use super::*;

/// The part of the hints that begins at `first` and has so many words.
fn is_within(place: Place, first: u32, words: u32) -> bool {
    (first..first + words).contains(&place.word)
}

proptest! {
    #[test]
    fn addresses_of_an_ipv4_24_share_its_bit(address: u32, other: u8) {
        let sibling = address & !0xff | u32::from(other);
        let place = filter::v4(address);
        prop_assert_eq!(place, filter::v4(sibling));
        prop_assert_ne!(place, filter::v4(address ^ 0x100));
        prop_assert!(is_within(place, first_word::FILTER_V4, FILTER_WORDS));
    }

    #[test]
    fn addresses_of_an_ipv4_16_share_its_lengths(address: u32, other: u16) {
        let sibling = address & !0xffff | u32::from(other);
        let place = region::v4(address);
        prop_assert_eq!(place, region::v4(sibling));
        prop_assert_ne!(place, region::v4(address ^ 0x1_0000));
        prop_assert!(is_within(place, first_word::REGIONS_V4, REGION_WORDS_V4));
        prop_assert!(place.shift == 0 || place.shift == 32);
    }

    #[test]
    fn addresses_of_an_ipv4_24_share_its_lengths(address: u32, other: u8) {
        let sibling = address & !0xff | u32::from(other);
        let place = region::near_v4(address);
        prop_assert_eq!(place, region::near_v4(sibling));
        prop_assert_ne!(place, region::near_v4(address ^ 0x100));
        prop_assert!(is_within(place, first_word::NEAR_V4, NEAR_WORDS_V4));
        prop_assert!(place.shift.is_multiple_of(16));
    }

    #[test]
    fn networks_of_an_ipv6_32_share_its_lengths(network: u64, other: u32) {
        let sibling = network >> 32 << 32 | u64::from(other);
        let place = region::v6(network);
        prop_assert_eq!(place, region::v6(sibling));
        prop_assert!(is_within(place, first_word::REGIONS_V6, REGION_WORDS_V6));
        prop_assert!(place.shift == 0 && place.word.is_multiple_of(2));
        prop_assert!(is_within(filter::v6(network), first_word::FILTER_V6, FILTER_WORDS));
    }

    /// An entry that is read back as another prefix would be removed at the next reload.
    #[test]
    fn words_lead_back_to_their_key(
        scope in 0_u32..1024,
        high: u64,
        low: u64,
        address: u32,
        length in 0_u32..=128,
    ) {
        let key = Key::v6(scope, [high, low], length);
        prop_assert_eq!(Key::from_words(key.words()), key);
        prop_assert_eq!((key.scope(), key.length()), (scope, length));
        prop_assert_eq!(Key::v6(scope, key.network_v6(), length), key);

        let v4 = Key::v4(scope, address, length % 33);
        prop_assert_eq!((v4.scope(), v4.length()), (scope, length % 33));
        prop_assert_eq!(Key::v4(scope, v4.network_v4(), length % 33), v4);
        prop_assert!(!v4.is_free() && !key.is_free());
        prop_assert!(Key::from_words([0; 3]).is_free());
    }

    #[test]
    fn a_word_leads_back_to_its_entry(
        listed in 0_u32..3,
        operator in 0_u32..3,
        added_s in 0..=Entry::LATEST,
        expires_s: u32,
    ) {
        let entry = Entry { listed, operator, added_s, expires_s };
        prop_assert_eq!(Entry::from_bits(entry.to_bits()), entry);
    }

    #[test]
    fn a_length_has_the_bit_at_which_the_program_looks(length in 1_u32..=64) {
        let bit = region::bit(64, length);
        prop_assert_eq!(64 - (1_u64 << bit).trailing_zeros(), length);
        prop_assert_eq!(region::bit(64, 0), region::bit(64, 1));
    }
}

/// A poor hash would send most sources on to the lists.
#[test]
fn ipv6_networks_spread_over_the_filter() {
    let networks = (0..10_000_u64).map(|index| 0x2001_0db8_0000 + index);
    let places: HashSet<(u32, u32)> = networks
        .map(filter::v6)
        .map(|place| (place.word, place.shift))
        .collect();
    assert!(places.len() > 9_900, "{}", places.len());
}

/// A poor hash would fill some lines and leave others empty.
#[test]
fn entries_spread_over_the_lines() {
    const LINES: u32 = 1 << 10;
    let mut counts = [[0_u32; LINES as usize]; 2];
    for number in 0..16 * LINES {
        let network = Ipv6Addr::from(u128::from(number) << 64);
        let [high, low] = Address::from(std::net::IpAddr::V6(network)).halves();
        let key = if number % 2 == 0 {
            Key::v6(0, [high, low], 128)
        } else {
            Key::v4(0, number, 32)
        };
        let lines = key.lines(7, 0, LINES.into());
        for (counts, line) in counts.iter_mut().zip(lines) {
            *counts.get_mut(line as usize).expect("a line of these") += 1;
        }
    }
    for counts in counts {
        // 16 on average: none is far from that.
        assert!(
            counts.iter().all(|count| (1..48).contains(count)),
            "{counts:?}"
        );
    }
}
