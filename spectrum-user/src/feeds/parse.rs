//! What a feed says: prefixes, in any of the usual forms.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

/// A feed that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Sorted, each once.
    pub prefixes: Vec<IpNet>,
    /// Lines that say something else.
    pub bad_lines: usize,
    /// The first of these: its number from 1, and its beginning.
    pub first_bad: Option<(usize, String)>,
}

/// The fields in which lines of JSON keep a prefix.
const FIELDS: [&str; 5] = ["cidr", "prefix", "network", "ip", "address"];
/// A feed that lists more at once is broken, or means to break things.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;
/// Prefixes that a range may fall into: the worst that two addresses can do.
const MOST_OF_RANGE: usize = 254;
/// Characters of a bad line that are shown.
const SHOWN: usize = 40;

/// Reads a feed of one prefix, address, range (`first-last`) or JSON object per line, with remarks
/// after `#` or `;`. Lines that are none of these are counted and left out.
pub fn parse(text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        match parse_line(line.trim()) {
            Some(prefixes) => parsed.prefixes.extend(prefixes),
            None => {
                parsed.bad_lines += 1;
                let beginning = || line.trim().chars().take(SHOWN).collect();
                let first = parsed.first_bad.take();
                parsed.first_bad = first.or_else(|| Some((index + 1, beginning())));
            }
        }
    }
    parsed.prefixes.sort_unstable();
    parsed.prefixes.dedup();
    parsed
}

/// The prefixes of a line; `None` if it makes no sense.
fn parse_line(line: &str) -> Option<Vec<IpNet>> {
    if line.starts_with('{') {
        return parse_json(line);
    }
    let said = line.split(['#', ';']).next().unwrap_or_default();
    let Some(word) = said.split([' ', '\t', ',']).find(|word| !word.is_empty()) else {
        return Some(Vec::new());
    };
    parse_word(word)
}

/// An object without a prefix is a remark, such as the date of the list.
fn parse_json(line: &str) -> Option<Vec<IpNet>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    match FIELDS.iter().find_map(|field| object.get(*field)) {
        Some(value) => parse_word(value.as_str()?),
        None => Some(Vec::new()),
    }
}

fn parse_word(word: &str) -> Option<Vec<IpNet>> {
    let prefixes = match word.split_once('-') {
        Some((first, last)) => parse_range(first, last)?,
        None => vec![parse_prefix(word)?],
    };
    prefixes.iter().all(is_narrow).then_some(prefixes)
}

/// Feeds are not always exact: bits beyond the length are dropped, IPv4 in the dress of IPv6 is
/// IPv4.
fn parse_prefix(word: &str) -> Option<IpNet> {
    let prefix = match word.parse::<IpNet>() {
        Ok(prefix) => prefix.trunc(),
        Err(_) => IpNet::from(word.parse::<IpAddr>().ok()?),
    };
    match prefix {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => Some(Ipv4Net::new(v4, v6.prefix_len() - 96).ok()?.into()),
            None => Some(prefix),
        },
        IpNet::V4(_) | IpNet::V6(_) => Some(prefix),
    }
}

fn parse_range(first: &str, last: &str) -> Option<Vec<IpNet>> {
    match (first.parse().ok()?, last.parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            let nets = Ipv4Subnets::new(first, last, 0);
            Some(nets.map(IpNet::from).take(MOST_OF_RANGE).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            let nets = Ipv6Subnets::new(first, last, 0);
            Some(nets.map(IpNet::from).take(MOST_OF_RANGE).collect())
        }
        _ => None,
    }
}

fn is_narrow(prefix: &IpNet) -> bool {
    let shortest = match prefix {
        IpNet::V4(_) => SHORTEST_V4,
        IpNet::V6(_) => SHORTEST_V6,
    };
    prefix.prefix_len() >= shortest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    /// The forms in which well-known lists come.
    #[test]
    fn every_usual_form_is_understood() {
        let feed = b"# FireHOL\n\n198.51.100.7\r\n198.51.100.0/24 # twice\n\
            ; Spamhaus DROP List\n1.10.16.0/20 ; SBL256894\n\
            {\"cidr\":\"2.56.192.0/22\",\"sblid\":\"SBL1\",\"rir\":\"ripencc\"}\n\
            {\"type\":\"metadata\",\"timestamp\":1}\n\
            203.0.113.4-203.0.113.7\n2001:db8:bad::/48\n::ffff:192.0.2.9\n198.51.100.7\n\
            192.0.2.77/28 120\n";
        let parsed = parse(feed);
        assert_eq!(parsed.bad_lines, 0, "{:?}", parsed.first_bad);
        let mut expected = nets(&[
            "198.51.100.7/32",
            "198.51.100.0/24",
            "1.10.16.0/20",
            "2.56.192.0/22",
            "203.0.113.4/30",
            "2001:db8:bad::/48",
            "192.0.2.9/32",
            "192.0.2.64/28",
        ]);
        expected.sort_unstable();
        assert_eq!(parsed.prefixes, expected);
    }

    /// One of these taken for a prefix would block half of the Internet.
    #[test]
    fn what_makes_no_sense_is_counted_and_left_out() {
        let feed = b"192.0.2.1\n<html>\n0.0.0.0/0\n::/0\n300.1.1.1\n1.2.3.4/33\n9.9.9.9-1.1.1.1\n\
            {\"cidr\":7}\n{\"cidr\nexample.com\n\xff\xfe\n";
        let parsed = parse(feed);
        assert_eq!(parsed.prefixes, nets(&["192.0.2.1/32"]));
        assert_eq!(parsed.bad_lines, 10);
        assert_eq!(parsed.first_bad, Some((2, "<html>".to_owned())));
    }

    proptest! {
        /// Whoever keeps a feed may send anything.
        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let parsed = parse(&text);
            prop_assert!(parsed.prefixes.is_sorted());
            prop_assert!(parsed.prefixes.iter().all(is_narrow));
        }

        #[test]
        fn almost_lists_are_read(text in "([0-9a-f:./ ;#{}\"-]{0,20}\n){0,30}") {
            let parsed = parse(text.as_bytes());
            prop_assert!(parsed.prefixes.iter().all(|net| net.trunc() == *net));
            prop_assert!(parsed.bad_lines <= text.lines().count());
        }

        #[test]
        fn what_was_listed_is_read(addresses in prop::collection::vec(any::<u32>(), 1..50), length in 8_u8..=32) {
            let nets = addresses.iter().map(|bits| {
                IpNet::from(Ipv4Net::new((*bits).into(), length).expect("a length")).trunc()
            });
            let mut nets: Vec<IpNet> = nets.collect();
            let text: String = nets.iter().map(|net| format!("{net}\n")).collect();
            nets.sort_unstable();
            nets.dedup();
            prop_assert_eq!(parse(text.as_bytes()).prefixes, nets);
        }
    }
}
