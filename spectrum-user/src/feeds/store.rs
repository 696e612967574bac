//! The last good copy of each feed, for a start at which its source fails.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fetch::Edition;
use crate::config::Feed;

/// The copies, below the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// What is kept beside a copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// A copy of another source is none.
    source: String,
    pub(super) edition: Edition,
    pub(super) fetched: Timestamp,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("feeds"),
        }
    }

    /// The copy of a feed; `None` if there is none that can be used.
    pub(super) fn load(&self, feed: &Feed) -> Option<(Vec<u8>, About)> {
        let about = fs::read(self.path(feed, "json")).ok()?;
        let about: About = serde_json::from_slice(&about).ok()?;
        if about.source != feed.source.to_string() {
            return None;
        }
        Some((fs::read(self.path(feed, "list")).ok()?, about))
    }

    /// Keeps a copy in the place of the one before.
    pub(super) fn save(&self, feed: &Feed, body: &[u8], edition: &Edition) -> Result<()> {
        let directory = &self.directory;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let about = About {
            source: feed.source.to_string(),
            edition: edition.clone(),
            fetched: Timestamp::now(),
        };
        // Without what is said about it a copy is none: that goes first and comes last.
        let path = self.path(feed, "json");
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        self.write(feed, "list", body)?;
        self.write(feed, "json", &serde_json::to_vec(&about)?)
    }

    fn write(&self, feed: &Feed, ending: &str, body: &[u8]) -> Result<()> {
        let path = self.path(feed, ending);
        let next = self.path(feed, "next");
        fs::write(&next, body)
            .and_then(|()| fs::rename(&next, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn path(&self, feed: &Feed, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", feed.name))
    }
}
