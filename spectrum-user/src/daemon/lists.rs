//! What documents and feeds list, as the feeds and the data plane want to know it.

use spectrum_common::maps::size;

use crate::{
    config::{Config, FeedAction},
    dataplane::lists::{Action, FeedList},
    feeds::Feeds,
};

/// Entries that no feed may take from `spectrum block` and `spectrum allow`.
const OPERATOR_ENTRIES: usize = 1 << 16;

/// No feed yet.
pub(super) fn feeds() -> Feeds {
    Feeds::new(size::ACCESS_ENTRIES - OPERATOR_ENTRIES)
}

/// Follows the feeds of a configuration, none of which may block where the operator works from.
pub(super) fn follow(feeds: &mut Feeds, config: &Config) {
    let host = &config.host;
    let documents = documented(config);
    feeds.follow(&host.feeds, &host.allow, documents, &host.state_dir);
}

/// Entries on the lists of all documents.
pub(super) fn documented(config: &Config) -> usize {
    let host = &config.host;
    let of_apps = config.apps.iter().map(|app| &app.protection);
    let of_apps = of_apps.map(|rules| rules.block.len() + rules.allow.len());
    host.block.len() + host.allow.len() + of_apps.sum::<usize>()
}

/// What feeds list, as the data plane wants it.
pub(super) fn of_feeds(feeds: &Feeds, config: &Config) -> Vec<FeedList> {
    let id = |name: &String| {
        let app = config.apps.iter().find(|app| app.name == *name)?;
        Some(app.id)
    };
    let lists = feeds.lists().map(|(feed, prefixes)| FeedList {
        action: match feed.action {
            FeedAction::Block => Action::Block,
            FeedAction::Allow => Action::Allow,
        },
        apps: (!feed.apps.is_empty()).then(|| feed.apps.iter().filter_map(id).collect()),
        prefixes,
    });
    lists.collect()
}
