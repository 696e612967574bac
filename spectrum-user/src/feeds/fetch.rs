//! Getting a feed from where it is kept.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::config::FeedSource;

/// Bytes of the longest feed: twice as many as 4,000,000 entries take.
pub(super) const MAX_BYTES: u64 = 128 << 20;
/// From the first packet to the last byte.
const PATIENCE: Duration = Duration::from_mins(2);

/// What tells one edition of a feed from the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edition {
    etag: Option<String>,
    last_modified: Option<String>,
}

pub(super) enum Fetched {
    /// It is the edition that is known.
    Same,
    New(Vec<u8>, Edition),
}

/// Asks for a feed, unless it is still the edition `known`. Blocks.
pub(super) fn fetch(source: &FeedSource, known: &Edition) -> Result<Fetched> {
    match source {
        FeedSource::File(path) => read_file(path, known),
        FeedSource::Url(url) => download(url, known),
    }
}

fn read_file(path: &Path, known: &Edition) -> Result<Fetched> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let meta = file.metadata()?;
    ensure!(meta.is_file(), "{} is no file", path.display());
    let modified = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let edition = Edition {
        etag: Some(format!("{} bytes", meta.len())),
        last_modified: Some(format!("{}", modified.as_nanos())),
    };
    if edition == *known {
        return Ok(Fetched::Same);
    }
    let mut body = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut body)?;
    ensure!(
        body.len() as u64 <= MAX_BYTES,
        "longer than {MAX_BYTES} bytes"
    );
    Ok(Fetched::New(body, edition))
}

fn download(url: &str, known: &Edition) -> Result<Fetched> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .user_agent(concat!("spectrum/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(url);
    for (name, value) in [
        ("If-None-Match", &known.etag),
        ("If-Modified-Since", &known.last_modified),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let mut response = request.call()?;
    match response.status().as_u16() {
        200 => {}
        304 => return Ok(Fetched::Same),
        status => bail!("the server answers {status}"),
    }
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(ToOwned::to_owned)
    };
    let edition = Edition {
        etag: header("etag"),
        last_modified: header("last-modified"),
    };
    let body = response.body_mut().with_config().limit(MAX_BYTES);
    Ok(Fetched::New(body.read_to_vec()?, edition))
}
