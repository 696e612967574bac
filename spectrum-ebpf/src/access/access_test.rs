//! A wrong answer here lets a blocked source in, or a client out.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::HashMap, net::IpAddr, vec::Vec};

use proptest::prelude::*;

use super::*;

const NOW: u32 = 1000;
const SCOPE: u32 = 3;

/// Lists without a filter.
#[derive(Default)]
struct Table(HashMap<(u32, AccessKey), AccessEntry>);

impl Table {
    fn with(mut self, prefix: &str, action: u32, expires_s: u32) -> Self {
        let (address, bits) = prefix.split_once('/').expect("a prefix");
        let address: IpAddr = address.parse().expect("an address");
        let bits: u32 = bits.parse().expect("a length");
        let prefix_length = SCOPE_BITS + bits + if address.is_ipv4() { 96 } else { 0 };
        let entry = AccessEntry {
            action,
            expires_s,
            prefix_length,
            ..AccessEntry::default()
        };
        self.0.insert((prefix_length, key(&address)), entry);
        self
    }
}

fn key(address: &IpAddr) -> AccessKey {
    AccessKey {
        scope_be: SCOPE.to_be(),
        address: Address::from(*address),
    }
}

impl Lists for Table {
    fn filter(&self, _family: Family, _word: u32) -> u64 {
        u64::MAX
    }

    fn host(&self, key: &AccessKey) -> Option<AccessEntry> {
        self.0.get(&(KEY_BITS, *key)).copied()
    }

    fn net(&self, bits: u32, key: &AccessKey) -> Option<AccessEntry> {
        let covers = |length: u32, prefix: &AccessKey| {
            let distinct = u128_of(&prefix.address) ^ u128_of(&key.address);
            length < KEY_BITS
                && length <= bits
                && prefix.scope_be == key.scope_be
                && distinct.leading_zeros() >= length - SCOPE_BITS
        };
        let covering = self
            .0
            .iter()
            .filter(|((length, prefix), _)| covers(*length, prefix));
        covering
            .max_by_key(|((length, _), _)| *length)
            .map(|(_, entry)| *entry)
    }

    fn boot_seconds(&self) -> u32 {
        NOW
    }
}

fn u128_of(address: &Address) -> u128 {
    let [a, b, c, d] = address.words_be.map(|word| u128::from(u32::from_be(word)));
    a << 96 | b << 64 | c << 32 | d
}

#[test]
fn the_most_specific_entry_that_has_not_expired_decides() {
    use action::{ALLOW, BLOCK};
    let blocked_net = || Table::default().with("198.51.100.0/24", BLOCK, 0);
    let cases: Vec<(&str, Table, &str, Listed)> = std::vec![
        ("nothing", Table::default(), "198.51.100.7", Listed::Nowhere),
        ("covered", blocked_net(), "198.51.100.7", Listed::Blocked),
        ("beside", blocked_net(), "198.51.101.7", Listed::Nowhere),
        (
            "address before prefix",
            blocked_net().with("198.51.100.7/32", ALLOW, 0),
            "198.51.100.7",
            Listed::Allowed,
        ),
        (
            "longer before shorter",
            blocked_net().with("198.51.100.0/25", ALLOW, 0),
            "198.51.100.7",
            Listed::Allowed,
        ),
        (
            "an expired address uncovers the prefix",
            blocked_net().with("198.51.100.7/32", ALLOW, NOW),
            "198.51.100.7",
            Listed::Blocked,
        ),
        (
            "expired prefixes uncover the one around them",
            blocked_net()
                .with("198.51.100.0/25", ALLOW, NOW)
                .with("198.51.100.0/26", ALLOW, 1)
                .with("198.51.100.0/27", ALLOW, 1)
                .with("198.51.100.0/28", ALLOW, NOW - 1),
            "198.51.100.7",
            Listed::Blocked,
        ),
        (
            "not yet expired",
            Table::default().with("198.51.100.7/32", BLOCK, NOW + 1),
            "198.51.100.7",
            Listed::Blocked,
        ),
        (
            "all of IPv6 is none of IPv4",
            Table::default().with("::/0", BLOCK, 0),
            "198.51.100.7",
            Listed::Nowhere,
        ),
        (
            "all of IPv6",
            Table::default().with("::/0", BLOCK, 0),
            "2001:db8::1",
            Listed::Blocked,
        ),
        (
            "all of IPv4",
            Table::default().with("0.0.0.0/0", BLOCK, 0),
            "198.51.100.7",
            Listed::Blocked,
        ),
    ];
    for (name, table, source, expected) in cases {
        let source: IpAddr = source.parse().expect(source);
        assert_eq!(look_up(&table, SCOPE, &source.into()), expected, "{name}");
        assert_eq!(
            look_up(&table, SCOPE + 1, &source.into()),
            Listed::Nowhere,
            "{name}"
        );
    }
}

proptest! {
    /// The daemon sets the bit of a prefix, the program reads that of an address.
    #[test]
    fn addresses_of_an_ipv4_24_share_its_bit(address: u32, other: u8) {
        let bit = |bits: u32| FilterBit::of(&Address::from_ipv4_be(bits.to_be()));
        let sibling = address & !0xff | u32::from(other);
        prop_assert_eq!(bit(address), bit(sibling));
        prop_assert_eq!(bit(address).index, address >> 8);
        prop_assert_ne!(bit(address), bit(address ^ 0x100));
        prop_assert!(bit(address).word() < FILTER_BITS / FILTER_WORD_BITS);
    }

    #[test]
    fn addresses_of_an_ipv6_48_share_its_bit(address in 1_u128 << 96.., other: u128) {
        let of = |bits: u128| {
            let bit = FilterBit::of(&IpAddr::from(bits.to_be_bytes()).into());
            assert_eq!(bit.family, Family::Ipv6);
            assert!(bit.index < FILTER_BITS);
            bit
        };
        let sibling = address >> 80 << 80 | other >> 48;
        prop_assert_eq!(of(address), of(sibling));
    }
}

/// A poor hash would send most sources on to the lists.
#[test]
fn ipv6_networks_spread_over_the_filter() {
    let networks = (0..10_000_u128).map(|index| (0x2001_0db8_0000 + index) << 80);
    let bits = networks.map(|bits| FilterBit::of(&IpAddr::from(bits.to_be_bytes()).into()).index);
    let distinct: std::collections::HashSet<u32> = bits.collect();
    assert!(distinct.len() > 9_900, "{}", distinct.len());
}
