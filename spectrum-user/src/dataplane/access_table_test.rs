//! The table and the program's look-up agree with a list that is searched from end to end: a wrong
//! answer lets a blocked source in, or a client out.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;
use spectrum_common::{
    access::{HINT_WORDS, Line, action},
    address::Address,
};
use spectrum_ebpf::access::{self, Listed, Lists};

use super::*;

const NOW: u32 = 1000;

/// A table in ordinary memory.
struct Memory {
    words: Vec<AtomicU64>,
    hints: Box<[AtomicU64]>,
}

impl Memory {
    fn of(size: Size) -> Self {
        let memory = Self::zeroed(size);
        Table::start(&memory.words, &memory.hints, size, 7);
        memory
    }

    fn zeroed(size: Size) -> Self {
        let words = size.lines() * LINE_WORDS;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            hints: (0..HINT_WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn table(&self) -> Table<'_> {
        Table::new(&self.words, &self.hints)
    }
}

impl Lists for Memory {
    fn hint(&self, word: u32) -> u64 {
        self.table().hint(word)
    }

    fn line(&self, index: u32) -> Option<impl std::borrow::Borrow<Line>> {
        self.table().line(index)
    }

    fn boot_seconds(&self) -> u32 {
        NOW
    }
}

/// What the filter and then the table say, as the program asks them.
fn asked(memory: &Memory, scope: u32, source: IpAddr) -> Listed {
    let source = Address::from(source);
    if access::may_be_listed(|word| memory.hint(word), &source) {
        access::look_up(memory, access::seed(memory), scope, &source).expect("one table")
    } else {
        Listed::Nowhere
    }
}

fn searched(entries: &BTreeMap<EntryKey, Entry>, scope: u32, source: IpAddr) -> Listed {
    let says = |entry: &Entry| {
        let expired = entry.expires_s != 0 && entry.expires_s <= NOW;
        match (entry.operator, entry.listed) {
            (action::BLOCK, _) if !expired => Some(Listed::Blocked),
            (action::ALLOW, _) if !expired => Some(Listed::Allowed),
            (_, action::BLOCK) => Some(Listed::Blocked),
            (_, action::ALLOW) => Some(Listed::Allowed),
            (_, _) => None,
        }
    };
    let covering = entries
        .iter()
        .filter(|((other, prefix), _)| *other == scope && prefix.contains(&source));
    covering
        .filter_map(|((_, prefix), entry)| Some((prefix.prefix_len(), says(entry)?)))
        .max_by_key(|(length, _)| *length)
        .map_or(Listed::Nowhere, |(_, listed)| listed)
}

/// Addresses that have much in common, so that prefixes of all lengths cover one another.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (any::<u32>(), 0_u32..=32).prop_map(|(bits, kept)| {
        let mask = u32::MAX.checked_shr(kept).unwrap_or(0);
        IpAddr::V4((0xc633_6407 ^ (bits & mask)).into())
    });
    let v6 = (any::<u128>(), 0_u32..=128).prop_map(|(bits, kept)| {
        let mask = u128::MAX.checked_shr(kept).unwrap_or(0);
        IpAddr::V6((0x2001_0db8_0bad_0007_0000_0000_0000_0009 ^ (bits & mask)).into())
    });
    prop_oneof![v4, v6]
}

fn key() -> impl Strategy<Value = EntryKey> {
    (0_u32..3, address(), 0_u8..=128).prop_map(|(scope, ip, length)| {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let net = IpNet::new(ip, length % (longest + 1)).expect("a length of the family");
        (scope, net.trunc())
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let expires = prop_oneof![Just(0), Just(1), Just(NOW), Just(NOW + 1), Just(u32::MAX)];
    (0_u32..3, 0_u32..3, 0..=Entry::LATEST, expires).prop_map(
        |(listed, operator, added_s, expires_s)| Entry {
            listed,
            operator,
            added_s,
            expires_s,
        },
    )
}

proptest! {
    // The hints are 7 MiB.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_says_what_a_search_says(
        entries in prop::collection::vec((key(), entry()), 1..80),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        sources in prop::collection::vec(address(), 40),
    ) {
        let memory = Memory::of(Size::of(400, 400));
        let table = memory.table();
        let mut reference = BTreeMap::new();
        for (key, entry) in &entries {
            table.put(*key, *entry).expect("room");
            reference.insert(*key, *entry);
        }
        for index in removed {
            let (key, _) = index.get(&entries);
            table.remove(*key);
            reference.remove(key);
        }
        let held: BTreeMap<_, _> = table.entries().collect();
        prop_assert_eq!(&held, &reference);
        prop_assert_eq!(table.header(header::ENTRIES), reference.len() as u64);
        for scope in 0..3 {
            for source in &sources {
                let expected = searched(&reference, scope, *source);
                prop_assert_eq!(asked(&memory, scope, *source), expected, "{} {}", scope, source);
            }
        }
    }
}

/// A table that loses an entry while it makes room for another lets a blocked source in.
#[test]
fn a_table_is_built_to_three_quarters() {
    let lines = 1 << 12;
    let size = Size {
        lines_v4: lines,
        lines_v6: lines,
    };
    let memory = Memory::of(size);
    let v4 = 3 * lines;
    let keys = (0..v4).map(|number| {
        let ip = std::net::Ipv4Addr::from(u32::try_from(number).expect("small") * 257);
        (0, IpNet::from(IpAddr::V4(ip)))
    });
    let v6 = (0..v4 / 4).map(|number| {
        let ip = std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | number as u128);
        (9, IpNet::from(IpAddr::V6(ip)))
    });
    let block = Entry {
        listed: action::BLOCK,
        ..Entry::default()
    };
    let keys: Vec<EntryKey> = keys.chain(v6).collect();
    for &key in &keys {
        memory.table().build(key, block).expect("room");
    }
    for &(scope, prefix) in &keys {
        assert_eq!(
            asked(&memory, scope, prefix.addr()),
            Listed::Blocked,
            "{prefix}"
        );
    }
    assert_eq!(memory.table().entries().count(), keys.len());
}

/// Every host starts with one, and most keep it.
#[test]
fn a_table_without_entries_lists_nobody() {
    let memory = Memory::zeroed(Size::EMPTY);
    for source in ["192.0.2.7", "2001:db8::7"] {
        let source = source.parse().expect("an address");
        assert_eq!(asked(&memory, 0, source), Listed::Nowhere);
        assert_eq!(
            access::look_up(&memory, 0, 0, &source.into()),
            Ok(Listed::Nowhere)
        );
    }
    let key = (0, "192.0.2.7/32".parse().expect("a prefix"));
    assert!(memory.table().put(key, Entry::default()).is_err());
    assert_eq!(memory.table().entries().count(), 0);
}
