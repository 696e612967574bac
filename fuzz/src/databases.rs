//! Databases of where addresses are: any bytes are read or refused, and what is said of an address is
//! the same whether it is asked for alone or with all others.

use std::net::{IpAddr, Ipv4Addr};

use spectrum_user::geo::{Country, Origin, Place, Places, find, parse};

/// Lines whose addresses are asked about one by one.
const MOST: usize = 16;
/// Addresses that are asked about in any database.
const SOME: [&str; 4] = ["0.0.0.0", "192.0.2.1", "255.255.255.255", "2001:db8::1"];

pub fn run(database: &[u8]) {
    for ip in SOME {
        let ip = ip.parse().expect("an address");
        let _origin_or_error = find(database.to_vec(), ip);
    }
    let Ok(ranges) = parse(database.to_vec()) else {
        return;
    };
    let places = Places::new([&ranges]);
    // What is not text has a tree, which may be broken where one address leads and nowhere else.
    let Ok(text) = std::str::from_utf8(database) else {
        return;
    };
    for number in text.lines().take(MOST).flat_map(bounds) {
        for near in [number.wrapping_sub(1), number, number.wrapping_add(1)] {
            let ip = IpAddr::from(Ipv4Addr::from(near));
            let origin = find(database.to_vec(), ip).expect("all of it was read");
            assert_eq!(place(&origin), places.find(ip), "{ip}");
        }
    }
}

/// The addresses of IPv4 that a line begins with.
fn bounds(line: &str) -> impl Iterator<Item = u32> + '_ {
    let fields = line.split(',').take(2);
    let fields = fields.map(|field| field.trim().trim_matches('"'));
    fields.filter_map(|field| {
        let dotted = || field.parse::<Ipv4Addr>().ok().map(u32::from);
        field.parse().ok().or_else(dotted)
    })
}

fn place(origin: &Origin) -> Place {
    Place {
        country: origin.country.unwrap_or(Country::UNKNOWN),
        asn: origin.asn.unwrap_or_default(),
    }
}
