//! Lists that others keep.

use std::{path::PathBuf, time::Duration};

use super::words::words;

/// A `[[feeds]]` table of `spectrum.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Unique; the name of its copy in the state directory.
    pub name: String,
    pub source: FeedSource,
    pub action: FeedAction,
    /// Names of the apps it holds for; empty: all.
    pub apps: Vec<String>,
    /// How long after a look at the source the next one comes.
    pub refresh: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedSource {
    File(PathBuf),
    /// `http://` or `https://`.
    Url(String),
}

impl std::fmt::Display for FeedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedAction {
    Block,
    Allow,
}

words!(FeedAction {
    Block = "block",
    Allow = "allow",
});
