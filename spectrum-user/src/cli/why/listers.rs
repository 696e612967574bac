//! Who put an entry on a list: the maps only know that the documents or a feed did.

use std::{cell::OnceCell, path::Path};

use ipnet::IpNet;

use crate::{
    config::{App, Config, Feed, FeedAction},
    dataplane::lists::Action,
    feeds,
};

/// The documents, and the copies of the feeds.
pub(super) struct Listers<'a> {
    config: &'a Config,
    /// Where `config.host` was read.
    document: &'a Path,
    feeds: Vec<Copy<'a>>,
}

/// The copy of a feed, which may be long: read when it is first asked.
struct Copy<'a> {
    feed: &'a Feed,
    state_dir: &'a Path,
    prefixes: OnceCell<Vec<IpNet>>,
}

impl Copy<'_> {
    fn prefixes(&self) -> &[IpNet] {
        let read = || feeds::copy(self.feed, self.state_dir);
        self.prefixes.get_or_init(read)
    }
}

impl<'a> Listers<'a> {
    pub(super) fn new(config: &'a Config, document: &'a Path) -> Self {
        let feeds = config.host.feeds.iter().map(|feed| Copy {
            feed,
            state_dir: &config.host.state_dir,
            prefixes: OnceCell::new(),
        });
        Self {
            config,
            document,
            feeds: feeds.collect(),
        }
    }

    /// Who says this of a prefix: paths of documents, and names of feeds. `app`: on its own list.
    pub(super) fn of(&self, app: Option<&App>, action: Action, prefix: IpNet) -> Vec<String> {
        let (document, block, allow) = match app {
            Some(app) => {
                let rules = &app.protection;
                (app.document.as_path(), &rules.block, &rules.allow)
            }
            None => {
                let host = &self.config.host;
                (self.document, &host.block, &host.allow)
            }
        };
        let list = match action {
            Action::Block => block,
            Action::Allow => allow,
        };
        let document = list
            .contains(&prefix)
            .then(|| document.display().to_string());
        let exact = |listed: &[IpNet]| listed.binary_search(&prefix).is_ok();
        let mut feeds = self.feeds_that(app, action, exact);
        if document.is_none() && feeds.is_empty() {
            // What is left of a wider one, of which a part is spared.
            let around = |listed: &[IpNet]| listed.iter().any(|listed| listed.contains(&prefix));
            feeds = self.feeds_that(app, action, around);
        }
        document.into_iter().chain(feeds).collect()
    }

    fn feeds_that(
        &self,
        app: Option<&App>,
        action: Action,
        list: impl Fn(&[IpNet]) -> bool,
    ) -> Vec<String> {
        let concerns = |feed: &Feed| {
            let is_its_list = match app {
                Some(app) => feed.apps.contains(&app.name),
                None => feed.apps.is_empty(),
            };
            let does = match feed.action {
                FeedAction::Block => Action::Block,
                FeedAction::Allow => Action::Allow,
            };
            is_its_list && does == action
        };
        let feeds = self.feeds.iter();
        let found = feeds.filter(|copy| concerns(copy.feed) && list(copy.prefixes()));
        found
            .map(|copy| format!("feed {}", copy.feed.name))
            .collect()
    }
}
