//! The tables `[[feeds]]` of the host.

use std::{path::Path, time::Duration};

use toml::Spanned;

use super::{
    scalar,
    table::{Table, Wrong},
};
use crate::config::{Feed, FeedAction, FeedSource};

const REFRESH: Duration = Duration::from_hours(1);
const MIN_REFRESH: Duration = Duration::from_secs(10);
const MAX_REFRESH: Duration = Duration::from_hours(30 * 24);
const LONGEST_NAME: usize = 64;

/// Reads the feeds; relative paths are relative to `directory`.
pub(super) fn read(root: &mut Table<'_>, directory: &Path) -> Vec<Feed> {
    let mut named: Vec<Spanned<String>> = Vec::new();
    let mut feeds = Vec::new();
    for mut table in root.tables("feeds") {
        let name = table.require("name", "name = \"drop\"", |value| name(value.text()?));
        let source = table.require("source", "source = \"https://…/drop.txt\"", |value| {
            source(value.text()?, directory)
        });
        let action = table.get_or("action", FeedAction::Block, |value| {
            value.choice(FeedAction::WORDS)
        });
        let apps = table.items("apps", "to hold for all apps, remove this field", |value| {
            Ok(value.text()?.to_owned())
        });
        let refresh = table.get_or("refresh", REFRESH, |value| {
            scalar::duration(value, MIN_REFRESH..=MAX_REFRESH)
        });
        if let Some(name) = &name {
            match named.iter().find(|known| known.get_ref() == name.get_ref()) {
                None => named.push(name.clone()),
                Some(first) => {
                    let what = format!("`{}` is the name of two feeds", name.get_ref());
                    let wrong = Wrong::new(what, "again here")
                        .beside(first.span(), "first here")
                        .help("give each a name of its own");
                    table.wrong("name", name.span(), wrong);
                }
            }
        }
        table.finish();
        if let (Some(name), Some(source)) = (name, source) {
            let apps = apps.map_or_else(Vec::new, Spanned::into_inner);
            feeds.push(Feed {
                name: name.into_inner(),
                source: source.into_inner(),
                action,
                apps: apps.into_iter().map(Spanned::into_inner).collect(),
                refresh,
            });
        }
    }
    feeds
}

/// It becomes the name of a file.
fn name(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` cannot be the name of a feed"),
        format!("expected at most {LONGEST_NAME} of `a`–`z`, `0`–`9`, `-` and `_`"),
    )
    .help("for example `spamhaus-drop`"))
}

fn source(text: &str, directory: &Path) -> Result<FeedSource, Wrong> {
    match text.split_once("://") {
        None if !text.is_empty() => Ok(FeedSource::File(directory.join(text))),
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(FeedSource::Url(text.to_owned())),
        _ => Err(Wrong::new(
            format!("`{text}` is no source"),
            "expected a path, or a URL that begins with `https://` or `http://`",
        )
        .help("for example `source = \"https://www.spamhaus.org/drop/drop.txt\"`")),
    }
}
