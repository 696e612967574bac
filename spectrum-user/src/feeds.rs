//! Lists that others keep: fetched on a schedule, parsed off the main loop, the last good edition
//! kept on disk.
//!
//! Each feed has a task that looks at its source and tells the daemon what it found. Nothing here
//! knows maps: what a feed lists goes to the data plane as [`Prefixes`].

mod draft;
mod fetch;
pub mod parse;
mod room;
pub mod spare;
mod store;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, mpsc},
    task::{self, AbortHandle, JoinSet, spawn_blocking},
    time::timeout,
};

pub use self::draft::{Draft, Known};
use self::{
    fetch::{Edition, Fetched},
    room::Room,
    store::Store,
};
use crate::{config::Feed, dataplane::lists::Prefixes};

/// Entries of the longest feed.
const MAX_ENTRIES: usize = 2_000_000;
/// A source that failed is asked again sooner than the schedule says.
const RETRY: Duration = Duration::from_mins(1);

/// What is known of a feed, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedStatus {
    pub name: String,
    pub source: String,
    /// `block` or `allow`.
    pub action: String,
    /// Empty: all apps.
    pub apps: Vec<String>,
    pub entries: usize,
    /// Lines of the last edition that made no sense, and the first of them.
    pub bad_lines: usize,
    pub first_bad: Option<String>,
    /// Entries that would have blocked the operator, or what `protection.allow` protects.
    pub spared: usize,
    /// When the edition in use was fetched.
    pub fetched: Option<Timestamp>,
    /// When the source was last looked at.
    pub checked: Option<Timestamp>,
    pub next: Option<Timestamp>,
    /// Why the last look failed, or the filters have not taken over what it found; absent if neither.
    pub error: Option<String>,
}

/// An edition of a feed.
#[derive(Clone, Debug, Default)]
struct Contents {
    prefixes: Option<Arc<Prefixes>>,
    entries: usize,
    bad_lines: usize,
    first_bad: Option<String>,
    spared: usize,
    edition: Edition,
    fetched: Option<Timestamp>,
}

/// What a task found at its source: another edition, or that there is none.
pub struct Update {
    name: String,
    /// Who says so: what a task has sent before it was ended is of another feed.
    task: task::Id,
    checked: Timestamp,
    next: Timestamp,
    found: Result<Option<Contents>>,
}

/// All feeds of the configuration.
pub struct Feeds {
    held: BTreeMap<String, Held>,
    room: Arc<Room>,
    tasks: JoinSet<()>,
    updates_in: mpsc::Sender<Update>,
    updates: mpsc::Receiver<Update>,
}

struct Held {
    feed: Feed,
    /// Whom its entries must not block.
    spared: Vec<IpNet>,
    contents: Contents,
    /// The edition that takes the place of this one as soon as the data plane has it.
    coming: Option<Contents>,
    /// Why the data plane could not take it over when it was last tried.
    refused: Option<String>,
    checked: Option<Timestamp>,
    next: Option<Timestamp>,
    error: Option<String>,
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Feeds {
    /// Feeds that together with documents list at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let (updates_in, updates) = mpsc::channel(4);
        Self {
            held: BTreeMap::new(),
            room: Arc::new(Room::new(capacity)),
            tasks: JoinSet::new(),
            updates_in,
            updates,
        }
    }

    fn start(
        &mut self,
        feed: Feed,
        spared: Vec<IpNet>,
        store: Store,
        copy: Result<Contents>,
    ) -> Held {
        let mut error = None;
        let admitted = copy.and_then(|copy| {
            self.room.claim(&feed, copy.entries)?;
            Ok(copy)
        });
        let contents = admitted.unwrap_or_else(|why| {
            log::warn!("feed {}: its copy is of no use: {why:#}", feed.name);
            error = Some(format!("{why:#}"));
            Contents::default()
        });
        let wake = Arc::new(Notify::new());
        let watch = Watch {
            feed: feed.clone(),
            spared: spared.clone(),
            store,
            room: Arc::clone(&self.room),
            edition: contents.edition.clone(),
        };
        let task = watch.run(Arc::clone(&wake), self.updates_in.clone());
        Held {
            feed,
            spared,
            contents,
            coming: None,
            refused: None,
            checked: None,
            next: None,
            error,
            wake,
            task: self.tasks.spawn(task),
        }
    }

    /// Waits for the next thing that a task found. Cancel-safe.
    pub async fn updated(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            // Never: a sender is held here.
            None => std::future::pending().await,
        }
    }

    /// Takes note of what a task found; says whether the feed lists something else now.
    pub fn take(&mut self, update: Update) -> bool {
        let held = self.held.get_mut(&update.name);
        let Some(held) = held.filter(|held| held.task.id() == update.task) else {
            return false;
        };
        held.checked = Some(update.checked);
        held.next = Some(update.next);
        match update.found {
            Ok(None) => held.error = None,
            Ok(Some(contents)) => {
                log::info!(
                    "feed {}: {} entries, {} lines left out",
                    update.name,
                    contents.entries,
                    contents.bad_lines
                );
                held.error = None;
                let changed = held.newest().prefixes != contents.prefixes;
                if changed {
                    held.refused = None;
                }
                if changed || held.coming.is_some() {
                    held.coming = Some(contents);
                } else {
                    held.contents = contents;
                }
                return changed;
            }
            Err(error) => {
                log::warn!(
                    "feed {}: {error:#}; its {} entries stay",
                    update.name,
                    held.newest().entries
                );
                held.error = Some(format!("{error:#}"));
            }
        }
        false
    }

    /// Notes that the data plane has what [`Feeds::lists`] says.
    pub fn settle(&mut self) {
        for held in self.held.values_mut() {
            held.refused = None;
            if let Some(coming) = held.coming.take() {
                held.contents = coming;
            }
        }
    }

    /// Notes that the data plane could not take over what [`Feeds::lists`] says.
    pub fn refuse(&mut self, why: &anyhow::Error) {
        for held in self.held.values_mut() {
            held.refused = held.coming.is_some().then(|| format!("{why:#}"));
        }
    }

    /// What each feed lists, by name.
    pub fn lists(&self) -> impl Iterator<Item = (&Feed, Arc<Prefixes>)> {
        self.held.values().filter_map(|held| {
            let prefixes = held.newest().prefixes.as_ref()?;
            Some((&held.feed, Arc::clone(prefixes)))
        })
    }

    /// Looks at the source of one feed, or of all, at once; says of how many.
    pub fn refresh(&self, name: Option<&str>) -> usize {
        let chosen = self.held.values();
        let chosen = chosen.filter(|held| name.is_none_or(|name| held.feed.name == name));
        chosen.map(|held| held.wake.notify_one()).count()
    }

    pub fn statuses(&self) -> Vec<FeedStatus> {
        self.held.values().map(Held::status).collect()
    }
}

impl Held {
    fn newest(&self) -> &Contents {
        self.coming.as_ref().unwrap_or(&self.contents)
    }

    fn status(&self) -> FeedStatus {
        FeedStatus {
            name: self.feed.name.clone(),
            source: self.feed.source.to_string(),
            action: self.feed.action.to_string(),
            apps: self.feed.apps.clone(),
            entries: self.contents.entries,
            bad_lines: self.contents.bad_lines,
            first_bad: self.contents.first_bad.clone(),
            spared: self.contents.spared,
            fetched: self.contents.fetched,
            checked: self.checked,
            next: self.next,
            error: self.error.clone().or_else(|| self.refused.clone()),
        }
    }
}

/// What the task of a feed knows.
#[derive(Clone)]
struct Watch {
    feed: Feed,
    spared: Vec<IpNet>,
    store: Store,
    room: Arc<Room>,
    edition: Edition,
}

impl Watch {
    async fn run(mut self, wake: Arc<Notify>, updates: mpsc::Sender<Update>) {
        loop {
            let looking = self.clone();
            let looked = match spawn_blocking(move || looking.look()).await {
                Ok(looked) => looked,
                Err(panic) => Err(panic.into()),
            };
            let pause = match &looked {
                Ok(_) => self.feed.refresh,
                Err(_) => self.feed.refresh.min(RETRY),
            };
            let found = match looked {
                Ok(Some((contents, body))) => self.admit(contents, body).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            let checked = Timestamp::now();
            let update = Update {
                name: self.feed.name.clone(),
                task: task::id(),
                checked,
                next: checked + pause,
                found,
            };
            if updates.send(update).await.is_err() {
                return;
            }
            // Either the time is up or somebody asks.
            let _asked = timeout(pause, wake.notified()).await;
        }
    }

    /// Fetches and reads the feed if it is another edition than the one known. Blocks.
    fn look(&self) -> Result<Option<(Contents, Vec<u8>)>> {
        let Fetched::New(body, edition) = fetch::fetch(&self.feed.source, &self.edition)? else {
            return Ok(None);
        };
        let contents = read(&self.feed, &self.spared, &body, edition, Timestamp::now())?;
        Ok(Some((contents, body)))
    }

    /// Makes an edition the one that is known and kept, if there is room for it.
    async fn admit(&mut self, contents: Contents, body: Vec<u8>) -> Result<Contents> {
        self.room.claim(&self.feed, contents.entries)?;
        self.edition = contents.edition.clone();
        let saving = self.clone();
        let saved = spawn_blocking(move || saving.store.save(&saving.feed, &body, &saving.edition));
        if let Err(error) = saved.await? {
            log::warn!("feed {}: no copy kept: {error:#}", self.feed.name);
        }
        Ok(contents)
    }
}

/// What the copy of a feed lists, sorted; nothing if there is none.
pub fn copy(feed: &Feed, state_dir: &Path) -> Vec<IpNet> {
    let copy = Store::new(state_dir).load(feed);
    copy.map_or_else(Vec::new, |(body, _)| parse::parse(&body).prefixes)
}

/// An edition from its bytes. One without an entry is none: more likely the source is broken than
/// the world at peace.
fn read(
    feed: &Feed,
    spared: &[IpNet],
    body: &[u8],
    edition: Edition,
    fetched: Timestamp,
) -> Result<Contents> {
    let parsed = parse::parse(body);
    ensure!(
        !parsed.prefixes.is_empty(),
        "not one entry in it ({} lines make no sense)",
        parsed.bad_lines
    );
    let (prefixes, spared) = match feed.action {
        crate::config::FeedAction::Block => spare::spare(parsed.prefixes, spared),
        crate::config::FeedAction::Allow => (parsed.prefixes, 0),
    };
    ensure!(
        prefixes.len() <= MAX_ENTRIES,
        "{} entries; {MAX_ENTRIES} is the most of a feed",
        prefixes.len()
    );
    Ok(Contents {
        entries: prefixes.len(),
        prefixes: Some(Arc::new(Prefixes::new(prefixes))),
        bad_lines: parsed.bad_lines,
        first_bad: parsed
            .first_bad
            .map(|(line, text)| format!("line {line}: {text}")),
        spared,
        edition,
        fetched: Some(fetched),
    })
}

#[cfg(test)]
mod tests;
