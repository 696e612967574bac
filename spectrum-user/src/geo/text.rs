//! Databases as lines of text: `first,last,DE`, as Debian's `tor-geoipdb` has them, or
//! `first,last,64496,…` for autonomous systems. IPv4 is written as one number or with dots.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};

use super::{Country, Origin, Place, Range, Ranges};

/// Characters of a bad line that are shown.
const SHOWN: usize = 60;

/// Everything; a line that makes no sense makes the whole file none.
pub(super) fn read(bytes: &[u8]) -> Result<Ranges> {
    let mut ranges = Vec::new();
    for line in lines(bytes)? {
        ranges.push(line?.range);
    }
    ranges.sort_by_key(|range| range.first);
    Ok(Ranges::new(ranges))
}

/// What is said of one address. Where ranges overlap, the one that begins first is right, here as in
/// [`read`].
pub(super) fn look_up(bytes: &[u8], ip: IpAddr) -> Result<Origin> {
    let mut found: Option<Line<'_>> = None;
    for line in lines(bytes)? {
        let line = line?;
        let range = line.range;
        let same_family = range.first.is_ipv4() == ip.is_ipv4();
        let is_first = |other: &Line<'_>| range.first < other.range.first;
        if same_family
            && (range.first..=range.last).contains(&ip)
            && found.as_ref().is_none_or(is_first)
        {
            found = Some(line);
        }
    }
    Ok(found.map_or_else(Origin::default, |line| {
        let Place { country, asn } = line.range.place;
        Origin {
            country: (country != Country::UNKNOWN).then_some(country),
            asn: (asn != 0).then_some(asn),
            organisation: line.organisation.map(ToOwned::to_owned),
        }
    }))
}

struct Line<'a> {
    range: Range,
    organisation: Option<&'a str>,
}

fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = Result<Line<'_>>>> {
    let text = std::str::from_utf8(bytes).context("neither a MaxMind database nor text")?;
    let numbered = text.lines().zip(1..).filter(|(line, _)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    Ok(numbered.map(|(line, number)| {
        let shown = || line.chars().take(SHOWN).collect::<String>();
        parse(line).with_context(|| {
            format!(
                "line {number} is no `first,last,country` or `first,last,ASN`: {}",
                shown()
            )
        })
    }))
}

fn parse(line: &str) -> Result<Line<'_>> {
    let mut fields = line
        .splitn(4, ',')
        .map(|field| field.trim().trim_matches('"'));
    let mut next = || fields.next().context("too few fields");
    let (first, last) = (address(next()?)?, address(next()?)?);
    let place = place(next()?)?;
    ensure!(
        first.is_ipv4() == last.is_ipv4() && first <= last,
        "the range is reversed"
    );
    Ok(Line {
        range: Range { first, last, place },
        organisation: fields.next().filter(|rest| !rest.is_empty()),
    })
}

fn address(text: &str) -> Result<IpAddr> {
    match text.parse::<u32>() {
        Ok(number) => Ok(Ipv4Addr::from(number).into()),
        Err(_) => Ok(text.parse()?),
    }
}

fn place(text: &str) -> Result<Place> {
    if let Some(country) = Country::parse(text) {
        return Ok(Place { country, asn: 0 });
    }
    let digits = text.strip_prefix("AS").unwrap_or(text);
    Ok(Place {
        asn: digits.parse().context("neither a country nor an ASN")?,
        ..Place::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOR: &str = "# a remark\n16777216,16777471,AU\n16777472,16778239,CN\n\
        2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,DE\n2001:db8:1::,2001:db8:1::ffff,??\n";
    const SYSTEMS: &str = "1.0.0.0,1.0.0.255,13335,\"CLOUDFLARENET, Inc.\"\n1.0.1.0,1.0.1.9,AS7,\n";

    #[test]
    fn the_usual_forms_are_understood() {
        let places = super::super::Places::new([
            &read(TOR.as_bytes()).expect("text"),
            &read(SYSTEMS.as_bytes()).expect("text"),
        ]);
        for (ip, country, asn) in [
            ("1.0.0.7", "AU", 13335),
            ("1.0.1.9", "CN", 7),
            ("1.0.1.10", "CN", 0),
            ("1.0.4.0", "XX", 0),
            ("2001:db8::1", "DE", 0),
            ("2001:db8:1::1", "XX", 0),
        ] {
            let place = places.find(ip.parse().expect(ip));
            assert_eq!(
                (place.country.to_string().as_str(), place.asn),
                (country, asn),
                "{ip}"
            );
        }
        let origin = look_up(SYSTEMS.as_bytes(), "1.0.0.1".parse().expect("an address"));
        let origin = origin.expect("text");
        assert_eq!(origin.organisation.as_deref(), Some("CLOUDFLARENET, Inc."));
    }

    /// Half a database would let in, or keep out, whole countries.
    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for broken in ["1,2", "2,1,DE", "1,2,Germany", "1,::2,DE", "x,2,DE"] {
            let error = read(format!("0,0,DE\n{broken}\n").as_bytes()).expect_err(broken);
            assert!(error.to_string().contains("line 2"), "{error:#}");
        }
        assert!(read(b"\xff\xfe").is_err());
    }
}
