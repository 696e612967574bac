//! Where sources are, and who may come, in code.

use std::sync::Arc;

use spectrum_user::{
    config::{Admission, Mode},
    geo::{Country, Place, Places, Range, Ranges},
};

/// What a database says that knows these prefixes, in the order of their addresses.
pub(crate) fn places(known: &[(&str, &str, u32)]) -> Arc<Places> {
    let ranges = known.iter().map(|(prefix, code, asn)| {
        let net: ipnet::IpNet = prefix.parse().expect(prefix);
        Range {
            first: net.network(),
            last: net.broadcast(),
            place: Place {
                country: country(code),
                asn: *asn,
            },
        }
    });
    Arc::new(Places::new([&Ranges::new(ranges)]))
}

pub(crate) fn country(code: &str) -> Country {
    Country::parse(code).expect(code)
}

/// An admission of all but these.
pub(crate) fn refuse<T>(block: Vec<T>) -> Admission<T> {
    Admission {
        mode: Mode::Enforce,
        allow: Vec::new(),
        block,
    }
}

/// An admission of nobody but these.
pub(crate) fn admit<T>(allow: Vec<T>) -> Admission<T> {
    Admission {
        mode: Mode::Enforce,
        allow,
        block: Vec::new(),
    }
}
