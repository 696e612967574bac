//! Where addresses are: countries and autonomous systems, by databases that others keep.
//!
//! [`Places`] is what all databases say together, as the data plane wants it; [`Databases`] reads them
//! again when they change; [`look_up`] asks the files themselves about one address. What rules ask is
//! a [`Question`]. Nothing here knows maps.

mod country;
mod databases;
mod mmdb;
mod places;
mod question;
mod text;

use std::{fs::File, io::Read as _, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

pub(crate) use self::places::Run;
pub use self::{
    country::Country,
    databases::{DatabaseStatus, Databases, Draft, Known, Update},
    places::{Place, Places, Range, Ranges},
    question::Question,
};

/// Bytes of the largest database: several times the largest that there are.
const MAX_BYTES: u64 = 1 << 30;

/// What a database says of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub country: Option<Country>,
    pub asn: Option<u32>,
    /// Who runs the system, if a database says so.
    pub organisation: Option<String>,
}

/// Where `ip` is, by these files: of two that know, the earlier is right. With them, what is wrong
/// with those that cannot be read.
pub fn look_up<'a>(
    files: impl IntoIterator<Item = &'a Path>,
    ip: IpAddr,
) -> (Origin, Vec<anyhow::Error>) {
    let mut origin = Origin::default();
    let mut errors = Vec::new();
    for file in files {
        match look_up_in(file, ip) {
            Ok(found) => {
                if origin.asn.is_none() {
                    origin.asn = found.asn;
                    origin.organisation = found.organisation;
                }
                origin.country = origin.country.or(found.country);
            }
            Err(error) => errors.push(error),
        }
    }
    (origin, errors)
}

fn look_up_in(file: &Path, ip: IpAddr) -> Result<Origin> {
    let found = find(read_file(file)?, ip);
    found.with_context(|| format!("cannot use {}", file.display()))
}

/// Where `ip` is by the database of these bytes; the format is told by what is in it.
///
/// # Errors
/// It is none, or is broken.
pub fn find(database: Vec<u8>, ip: IpAddr) -> Result<Origin> {
    if mmdb::is_one(&database) {
        mmdb::look_up(database, ip)
    } else {
        text::look_up(&database, ip)
    }
}

/// What these files say together, for whoever does not follow them; with it, what is wrong with those
/// that cannot be read.
pub fn read_all<'a>(files: impl IntoIterator<Item = &'a Path>) -> (Places, Vec<anyhow::Error>) {
    let mut databases = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match read_file(file).and_then(|bytes| parse_file(file, bytes)) {
            Ok(ranges) => databases.push(ranges),
            Err(error) => errors.push(error),
        }
    }
    let places = Places::new(&databases);
    if errors.is_empty() {
        (places, errors)
    } else {
        (places.with_gaps(), errors)
    }
}

fn parse_file(file: &Path, bytes: Vec<u8>) -> Result<Ranges> {
    parse(bytes).with_context(|| format!("cannot use {}", file.display()))
}

/// Everything that the database of these bytes says.
///
/// # Errors
/// As [`find`]; or it says nothing.
pub fn parse(database: Vec<u8>) -> Result<Ranges> {
    let ranges = if mmdb::is_one(&database) {
        mmdb::read(database)
    } else {
        text::read(&database)
    }?;
    ensure!(!ranges.is_empty(), "it says nothing");
    Ok(ranges)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{} is longer than {MAX_BYTES} bytes",
        path.display()
    );
    Ok(bytes)
}
