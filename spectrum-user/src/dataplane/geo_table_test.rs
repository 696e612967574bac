//! The table and the program's look-up agree with the databases: a wrong answer keeps the clients of
//! a whole country out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use spectrum_common::address::Address;
use spectrum_ebpf::geo as program;

use super::*;
use crate::geo::{Country, Range, Ranges};

struct Memory(Vec<Line>);

impl program::Places for Memory {
    fn line(&self, index: u32) -> Option<impl std::borrow::Borrow<Line>> {
        self.0.get(index as usize).copied()
    }
}

fn place() -> impl Strategy<Value = Place> {
    ("[A-D]X", 0_u32..4).prop_map(|(code, asn)| Place {
        country: Country::parse(&code).unwrap_or_default(),
        asn,
    })
}

/// Bits of a network, biased so that many fall into the same node, at any depth.
fn bits() -> impl Strategy<Value = u64> {
    let byte = || prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()];
    prop::array::uniform8(byte()).prop_map(|mut bytes| {
        bytes[0] = 0x20;
        bytes[1] &= 1;
        u64::from_be_bytes(bytes)
    })
}

fn ip(is_ipv4: bool, bits: u64) -> IpAddr {
    if is_ipv4 {
        IpAddr::V4(Ipv4Addr::from((bits >> 32) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(u128::from(bits) << 64))
    }
}

fn last(is_ipv4: bool, bits: u64) -> IpAddr {
    if is_ipv4 {
        return ip(true, bits);
    }
    IpAddr::V6(Ipv6Addr::from(
        u128::from(bits) << 64 | u128::from(u64::MAX),
    ))
}

fn ranges(is_ipv4: bool) -> impl Strategy<Value = Vec<Range>> {
    let range =
        (bits(), any::<u64>(), 0_u32..48, place()).prop_map(move |(first, more, shift, place)| {
            let end = first.saturating_add(more >> (63 - shift));
            Range {
                first: ip(is_ipv4, first),
                last: last(is_ipv4, end),
                place,
            }
        });
    prop::collection::vec(range, 0..300).prop_map(|mut ranges| {
        ranges.sort_by_key(|range| range.first);
        ranges
    })
}

fn questions() -> Numbered {
    let country = |code: &str| Country::parse(code).expect(code);
    let asked = [
        (1, Question::countries(&[country("AX")])),
        (
            5,
            Question::refused_countries(&[country("AX"), country("BX")], &[]),
        ),
        (63, Question::asns(&[1, 3])),
        (64, Question::refused_asns(&[2], &[])),
        (127, Question::countries(&[Country::UNKNOWN])),
    ];
    asked.into()
}

fn agree(places: &Places, table: &Memory, ip: IpAddr) -> Result<(), TestCaseError> {
    let found = program::find(table, &Address::from(ip));
    let place = places.find(ip);
    for (number, question) in questions() {
        let expected = question.answer(place);
        prop_assert_eq!(
            program::says(&found, number),
            expected,
            "{} {:?}",
            ip,
            question
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_address_gets_the_answers_for_its_place(
        v4 in ranges(true),
        v6 in ranges(false),
        others in prop::collection::vec(bits(), 100),
    ) {
        let database = Ranges::new(v4.iter().chain(&v6).copied());
        let places = Places::new([&database]);
        let table = Memory(build(&places, &questions(), 1).expect("it is coarse enough"));
        for range in v4.iter().chain(&v6) {
            agree(&places, &table, range.first)?;
            agree(&places, &table, range.last)?;
        }
        for bits in others {
            agree(&places, &table, ip(true, bits))?;
            agree(&places, &table, ip(false, bits))?;
        }
        for ip in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff::ffff"] {
            agree(&places, &table, ip.parse().expect(ip))?;
        }
    }
}

/// A node that has a run for each of its networks spills over many lines.
#[test]
fn the_most_divided_node_is_read_back() {
    let country = |code: &str| Country::parse(code).expect(code);
    let [a, b] = ["AX", "BX"].map(country);
    let address = |number: u32| IpAddr::from(Ipv4Addr::from(0x0102_0000 + number));
    let ranges = (0..0x200).map(|number| Range {
        first: address(number),
        last: address(number),
        place: Place {
            country: if number % 2 == 0 { a } else { b },
            asn: number,
        },
    });
    let database = Ranges::new(ranges);
    let places = Places::new([&database]);
    let table = Memory(build(&places, &questions(), 1).expect("it is coarse enough"));
    for number in 0..0x210 {
        agree(&places, &table, address(number)).expect("the same");
    }
}

#[test]
fn a_table_without_questions_answers_none() {
    let table = Memory(vec![Line::default()]);
    let found = program::find(&table, &Address::from(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(found, Answers::default());
}
