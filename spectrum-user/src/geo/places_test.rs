//! An address that is found in another country than its own keeps a client out.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn place() -> impl Strategy<Value = Place> {
    ("[AB]X", 0_u32..3).prop_map(|(code, asn)| Place {
        country: Country::parse(&code).unwrap_or_default(),
        asn,
    })
}

/// Close together, so that they touch and overlap.
fn ranges() -> impl Strategy<Value = Vec<Range>> {
    let range = (0_u32..40, 0_u32..8, place()).prop_map(|(first, length, place)| Range {
        first: Ipv4Addr::from(first).into(),
        last: Ipv4Addr::from(first + length).into(),
        place,
    });
    prop::collection::vec(range, 0..8).prop_map(|mut ranges| {
        ranges.sort_by_key(|range| range.first);
        ranges
    })
}

fn searched(ranges: &[Range], ip: IpAddr) -> Place {
    let mut known = ranges
        .iter()
        .filter(|range| range.first <= ip && ip <= range.last);
    known.next().map(|range| range.place).unwrap_or_default()
}

proptest! {
    #[test]
    fn places_are_those_of_the_databases(first in ranges(), second in ranges()) {
        let databases = [&first, &second].map(|ranges| Ranges::new(ranges.iter().copied()));
        let places = Places::new(&databases);
        for low in 0..60 {
            let ip = Ipv4Addr::from(low).into();
            let expected = searched(&first, ip).or(searched(&second, ip));
            prop_assert_eq!(places.find(ip), expected, "{}", ip);
        }
        let runs = &places.v4.runs;
        for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
            prop_assert_ne!(run.place, next.place);
            prop_assert!(run.first < next.first);
        }
    }
}

/// Who is where an app admits clients from would be locked out if the file that says so is missing.
#[test]
fn whom_a_missing_database_may_know_is_no_stranger() {
    let country = |code: &str| Country::parse(code).expect(code);
    let refused = Question::refused_countries(&[country("DE")], &[]);
    let systems = Question::refused_asns(&[7], &[]);
    let place = |code, asn| Place {
        country: country(code),
        asn,
    };
    let whole = Places::new([]);
    let with_gaps = whole.clone().with_gaps();
    assert_ne!(whole.digest(), with_gaps.digest());
    for (place, by_country, by_system) in [
        (place("DE", 7), [false; 2], [false; 2]),
        (place("KP", 8), [true; 2], [true; 2]),
        (place("XX", 8), [true, false], [true; 2]),
        (place("KP", 0), [true; 2], [true, false]),
    ] {
        for (question, expected) in [(&refused, by_country), (&systems, by_system)] {
            let answers = [&whole, &with_gaps].map(|places| places.answer(question, place));
            assert_eq!(answers, expected, "{place:?}");
        }
    }
}

#[test]
fn the_first_and_the_last_address_have_a_place_too() {
    let country = Country::parse("DE").expect("a country");
    let place = Place { country, asn: 7 };
    let range = |first: &str, last: &str| Range {
        first: first.parse().expect(first),
        last: last.parse().expect(last),
        place,
    };
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let ranges = Ranges::new([range("0.0.0.0", "255.255.255.255"), range("fe80::", last)]);
    let places = Places::new([&ranges]);
    for ip in ["0.0.0.0", "255.255.255.255", "fe80::1", last] {
        assert_eq!(places.find(ip.parse().expect(ip)), place, "{ip}");
    }
    let before = places.find("fe7f::".parse().expect("an address"));
    assert_eq!(before, Place::default());
}
