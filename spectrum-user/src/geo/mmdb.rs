//! Databases in MaxMind's format, by the names that their publishers give to the fields.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, ensure};
use maxminddb::{Reader, WithinOptions};
use serde::Deserialize;

use super::{Country, Origin, Place, Range, Ranges};

/// What comes before the description of a database, which is at its end.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// The description is no longer.
const LONGEST_DESCRIPTION: usize = 128 << 10;
/// Networks of the largest database: several times the routes that there are.
const MAX_NETWORKS: usize = 20_000_000;

/// What is of interest in a record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Named<'a>>,
    country_code: Option<&'a str>,
    /// Where the network is registered, if nobody knows where it is used.
    registered_country: Option<Named<'a>>,
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
    asn: Option<System<'a>>,
    as_name: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Named<'a> {
    Code(&'a str),
    Country { iso_code: Option<&'a str> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum System<'a> {
    Number(u32),
    Text(&'a str),
}

impl Record<'_> {
    fn country(&self) -> Option<Country> {
        let code = |named: &Option<Named<'_>>| match named {
            Some(Named::Code(code)) => Country::parse(code),
            Some(Named::Country { iso_code }) => iso_code.and_then(Country::parse),
            None => None,
        };
        let country = code(&self.country)
            .or_else(|| self.country_code.and_then(Country::parse))
            .or_else(|| code(&self.registered_country));
        country.filter(|country| *country != Country::UNKNOWN)
    }

    fn asn(&self) -> Option<u32> {
        let of_text = |text: &str| text.strip_prefix("AS").unwrap_or(text).parse().ok();
        let number = self.autonomous_system_number.or(match &self.asn {
            Some(System::Number(number)) => Some(*number),
            Some(System::Text(text)) => of_text(text),
            None => None,
        });
        number.filter(|number| *number != 0)
    }
}

pub(super) fn is_one(bytes: &[u8]) -> bool {
    let end = bytes.len().saturating_sub(LONGEST_DESCRIPTION);
    let end = bytes.get(end..).unwrap_or_default();
    end.windows(MARKER.len()).any(|window| window == MARKER)
}

/// Everything.
pub(super) fn read(bytes: Vec<u8>) -> Result<Ranges> {
    let reader = Reader::from_source(bytes)?;
    // Each node leads to two. A tree that leads in circles, or many ways to one place, has no end of
    // them; those that say nothing are the crate's to skip, unless it is asked for them.
    let most = 2 * reader.metadata().node_count as usize;
    let most = most.min(MAX_NETWORKS);
    // Networks share their records.
    let mut known: HashMap<usize, Place> = HashMap::new();
    let mut ranges = Vec::new();
    let options = WithinOptions::default().include_networks_without_data();
    for (number, network) in reader.networks(options)?.enumerate() {
        ensure!(number < most, "more than {most} networks");
        let network = network?;
        let Some(offset) = network.offset() else {
            continue;
        };
        let place = match known.get(&offset) {
            Some(place) => *place,
            None => {
                let record: Record<'_> = network.decode()?.unwrap_or_default();
                let place = Place {
                    country: record.country().unwrap_or_default(),
                    asn: record.asn().unwrap_or_default(),
                };
                known.insert(offset, place);
                place
            }
        };
        let network = network.network()?;
        ranges.push(Range {
            first: network.network(),
            last: last(network.network(), network.prefix()),
            place,
        });
    }
    Ok(Ranges::new(ranges))
}

/// The last address of a network.
fn last(network: IpAddr, length: u8) -> IpAddr {
    match network {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv4Addr::from(v4.to_bits() | rest).into()
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv6Addr::from(v6.to_bits() | rest).into()
        }
    }
}

/// What is said of one address.
pub(super) fn look_up(bytes: Vec<u8>, ip: IpAddr) -> Result<Origin> {
    let reader = Reader::from_source(bytes)?;
    if ip.is_ipv6() && reader.metadata().ip_version == 4 {
        return Ok(Origin::default());
    }
    let found = reader.lookup(ip)?;
    let record: Record<'_> = found.decode()?.unwrap_or_default();
    let organisation = record.autonomous_system_organization.or(record.as_name);
    Ok(Origin {
        country: record.country(),
        asn: record.asn(),
        organisation: organisation.map(ToOwned::to_owned),
    })
}
