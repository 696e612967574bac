//! What others keep for this host: lists, and databases of where addresses are. Read before the
//! documents that ask for it take effect, and followed from then on.

use std::sync::Arc;

use spectrum_common::maps::size;

use super::{Daemon, work::Cause};
use crate::{
    config::{Config, Feed, FeedAction},
    dataplane::lists::{Action, FeedList, Prefixes},
    feeds::{self, Feeds},
    geo::{self, Databases, Places},
};

/// Entries that no feed may take from `spectrum block` and `spectrum allow`.
const OPERATOR_ENTRIES: usize = 1 << 16;

/// What is followed.
pub(super) struct Others {
    pub(super) feeds: Feeds,
    pub(super) databases: Databases,
}

/// What has to be known of it to draft what comes next.
pub(super) struct Known {
    feeds: feeds::Known,
    databases: geo::Known,
}

/// What a configuration asks for that is not in force yet.
pub(super) struct Draft {
    feeds: feeds::Draft,
    databases: geo::Draft,
}

impl Others {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            feeds: Feeds::new(size::ACCESS_ENTRIES - OPERATOR_ENTRIES),
            databases: Databases::default(),
        }
    }

    pub(super) fn known(&self) -> Known {
        Known {
            feeds: self.feeds.known(),
            databases: self.databases.known(),
        }
    }

    /// Follows what a configuration asks for from now on.
    pub(super) fn adopt(&mut self, draft: Draft, config: &Config) {
        self.feeds.adopt(draft.feeds);
        self.databases.adopt(draft.databases);
        warn(&self.databases.places(), config);
    }

    /// The data plane has taken over what [`Others::say`] says.
    pub(super) fn settle(&mut self) {
        self.feeds.settle();
        self.databases.settle();
    }

    /// Notes that it could not.
    pub(super) fn refuse(&mut self, why: &anyhow::Error) {
        self.feeds.refuse(why);
        self.databases.refuse(why);
    }

    /// What feeds list and databases know, as the data plane wants it.
    pub(super) fn say(&self, config: &Config) -> (Vec<FeedList>, Arc<Places>) {
        let lists = self.feeds.lists();
        (for_apps(lists, config), self.databases.places())
    }

    /// The same once a draft is adopted.
    pub(super) fn will_say(&self, draft: &Draft, config: &Config) -> (Vec<FeedList>, Arc<Places>) {
        let lists = self.feeds.lists_with(&draft.feeds);
        (for_apps(lists, config), draft.databases.places())
    }
}

impl Known {
    /// Reads what a configuration asks for beyond what is known. Blocks.
    pub(super) fn draft(self, config: &Config) -> Draft {
        let host = &config.host;
        let documents = documented(config);
        Draft {
            // None of the feeds may block where the operator works from.
            feeds: self
                .feeds
                .draft(&host.feeds, &host.allow, documents, &host.state_dir),
            databases: self.databases.draft(&host.geo.databases, host.geo.refresh),
        }
    }
}

impl Daemon {
    /// Takes note of another edition of a database.
    pub(super) fn take_places(&mut self, update: geo::Update) {
        if !self.others.databases.take(update) {
            return;
        }
        let places = self.others.databases.places();
        warn(&places, &self.config);
        self.events.learn(places);
        self.want(Cause::Others);
    }

    /// Takes note of another edition of a feed.
    pub(super) fn take_list(&mut self, update: feeds::Update) {
        if self.others.feeds.take(update) {
            self.want(Cause::Others);
        }
    }

    /// Looks at the source of one feed, or of all and at the databases, at once; says how many that
    /// are.
    pub(super) fn refresh_lists(&self, name: Option<&str>) -> usize {
        let databases = if name.is_none() {
            self.others.databases.refresh()
        } else {
            0
        };
        self.others.feeds.refresh(name) + databases
    }
}

/// Entries on the lists of all documents.
pub(super) fn documented(config: &Config) -> usize {
    let host = &config.host;
    let of_apps = config.apps.iter().map(|app| &app.protection);
    let of_apps = of_apps.map(|rules| rules.block.len() + rules.allow.len());
    host.block.len() + host.allow.len() + of_apps.sum::<usize>()
}

/// Lists, each for the apps of the configuration that its feed names.
fn for_apps<'a>(
    lists: impl Iterator<Item = (&'a Feed, Arc<Prefixes>)>,
    config: &Config,
) -> Vec<FeedList> {
    let id = |name: &String| {
        let app = config.apps.iter().find(|app| app.name == *name)?;
        Some(app.id)
    };
    let lists = lists.map(|(feed, prefixes)| FeedList {
        action: match feed.action {
            FeedAction::Block => Action::Block,
            FeedAction::Allow => Action::Allow,
        },
        apps: (!feed.apps.is_empty()).then(|| feed.apps.iter().filter_map(id).collect()),
        prefixes,
    });
    lists.collect()
}

/// Rules that ask what no database knows are off: nobody is locked out because a file is missing, but
/// everybody should know.
fn warn(places: &Places, config: &Config) {
    let questions = config.questions();
    let asks = |about_countries| {
        let mut asked = questions.iter();
        asked.any(|question| question.is_about_countries() == about_countries)
    };
    for (what, asks, is_known) in [
        ("countries", asks(true), places.has_countries()),
        ("autonomous systems", asks(false), places.has_asns()),
    ] {
        if asks && !is_known {
            log::error!(
                "no database knows {what}: the rules that ask for them are OFF. `spectrum lists` \
                 shows what is wrong with the files in [geo]"
            );
        }
    }
    if !questions.is_empty() && places.has_gaps() {
        log::error!(
            "a database is missing: rules on countries and autonomous systems do not apply to \
             addresses that no other knows. `spectrum lists` shows what is wrong with it"
        );
    }
}
