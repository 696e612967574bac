//! The databases of the configuration: read before it takes effect, and again when a file has
//! changed, off the main loop. A file that cannot be used changes nothing: what was read of it last
//! stays.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{Places, Ranges, parse_file, read_file};
use crate::edition::Edition;

/// What is known of a database, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatabaseStatus {
    pub file: PathBuf,
    /// Ranges or networks in the edition that is in use.
    pub entries: usize,
    /// When the file of that edition was written.
    pub edition: Option<Timestamp>,
    /// Since when it is in use.
    pub read: Option<Timestamp>,
    /// Why the file as it is now cannot be used, or the filters have not taken over what it says;
    /// absent if neither is so.
    pub error: Option<String>,
}

/// A database, and what it says.
#[derive(Clone)]
struct Database {
    file: PathBuf,
    /// Of the file that was read last; `None` if it could not be, and is to be tried again.
    seen: Option<Edition>,
    /// Of the last file that could be used.
    ranges: Option<Arc<Ranges>>,
    edition: Option<Timestamp>,
    read: Option<Timestamp>,
    error: Option<String>,
}

/// What all databases say together, and what is known of each.
#[derive(Clone, Default)]
pub struct Known {
    databases: Vec<Database>,
    places: Arc<Places>,
}

/// Another edition of a database, or none that can be used.
pub struct Update(Known);

/// The databases of a configuration that is not in force yet.
pub struct Draft {
    known: Known,
    refresh: Duration,
}

/// The databases that are followed.
pub struct Databases {
    known: Known,
    /// Some address is somewhere else than the filters have it.
    is_coming: bool,
    /// Why the filters could not take that over.
    refused: Option<String>,
    refresh: Duration,
    wake: Arc<Notify>,
    tasks: JoinSet<()>,
    updates_in: mpsc::Sender<Update>,
    updates: mpsc::Receiver<Update>,
}

impl Default for Databases {
    fn default() -> Self {
        let (updates_in, updates) = mpsc::channel(1);
        Self {
            known: Known::default(),
            is_coming: false,
            refused: None,
            refresh: Duration::MAX,
            wake: Arc::default(),
            tasks: JoinSet::new(),
            updates_in,
            updates,
        }
    }
}

impl Databases {
    /// What is known, for whoever drafts what comes next.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Follows the databases of a draft from now on.
    pub fn adopt(&mut self, Draft { known, refresh }: Draft) {
        if self.known.is_of(known.files()) && self.refresh == refresh {
            return;
        }
        *self = Self {
            known,
            refresh,
            ..Self::default()
        };
        if !self.known.databases.is_empty() {
            // What has changed since the draft is not missed.
            self.wake.notify_one();
            let watch = watch(
                self.known.clone(),
                refresh,
                Arc::clone(&self.wake),
                self.updates_in.clone(),
            );
            self.tasks.spawn(watch);
        }
    }

    /// Waits for the next change of a database. Cancel-safe.
    pub async fn updated(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            // Never: a sender is held here.
            None => std::future::pending().await,
        }
    }

    /// Takes note of a change; says whether any address is somewhere else now.
    pub fn take(&mut self, Update(known): Update) -> bool {
        let changed = self.known.places.digest() != known.places.digest();
        self.known = known;
        self.is_coming |= changed;
        changed
    }

    /// The data plane has taken over what [`Databases::places`] says.
    pub fn settle(&mut self) {
        self.is_coming = false;
        self.refused = None;
    }

    /// Notes that it could not.
    pub fn refuse(&mut self, why: &anyhow::Error) {
        self.refused = self.is_coming.then(|| format!("{why:#}"));
    }

    /// What all databases say together.
    pub fn places(&self) -> Arc<Places> {
        Arc::clone(&self.known.places)
    }

    /// Looks at all files at once; says how many there are.
    pub fn refresh(&self) -> usize {
        self.wake.notify_one();
        self.known.databases.len()
    }

    pub fn statuses(&self) -> Vec<DatabaseStatus> {
        let databases = self.known.databases.iter();
        let status = |database: &Database| DatabaseStatus {
            error: database.error.clone().or_else(|| self.refused.clone()),
            ..database.status()
        };
        databases.map(status).collect()
    }
}

/// Looks at the files until it is stopped, and tells of what changed.
async fn watch(
    mut known: Known,
    refresh: Duration,
    wake: Arc<Notify>,
    updates: mpsc::Sender<Update>,
) {
    loop {
        // Either the time is up or somebody asks.
        let _asked = timeout(refresh, wake.notified()).await;
        let looking = known.clone();
        match spawn_blocking(move || looking.look()).await {
            Ok((looked, is_news)) => {
                // Also where it is none: which edition was looked at, so that it is not read again.
                known = looked;
                if is_news && updates.send(Update(known.clone())).await.is_err() {
                    return;
                }
            }
            Err(error) => log::error!("cannot read the databases: {error}"),
        }
    }
}

impl Draft {
    /// What the databases say together.
    pub fn places(&self) -> Arc<Places> {
        Arc::clone(&self.known.places)
    }
}

impl Known {
    /// These files, to be looked at every `refresh`: what is known of them stays, and those that are
    /// new are read. Blocks.
    pub fn draft(self, files: &[PathBuf], refresh: Duration) -> Draft {
        let known = if self.is_of(files.iter()) {
            self
        } else {
            self.with(files)
        };
        Draft { known, refresh }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.databases.iter().map(|database| &database.file)
    }

    fn is_of<'a>(&self, files: impl Iterator<Item = &'a PathBuf>) -> bool {
        self.files().eq(files)
    }

    fn with(&self, files: &[PathBuf]) -> Self {
        let databases = files.iter().map(|file| {
            let known = self.databases.iter().find(|known| known.file == *file);
            known.cloned().unwrap_or_else(|| Database::new(file))
        });
        let mut known = Self {
            databases: databases.collect(),
            places: Arc::default(),
        };
        for database in &mut known.databases {
            database.look();
        }
        known.merge();
        known
    }

    /// Reads the files that have changed; says whether there were any. Blocks.
    fn look(mut self) -> (Self, bool) {
        let mut changed = false;
        for database in &mut self.databases {
            changed |= database.look();
        }
        if changed {
            self.merge();
        }
        (self, changed)
    }

    fn merge(&mut self) {
        let editions = self.databases.iter().map(|database| &database.ranges);
        let has_gaps = editions.clone().any(Option::is_none);
        let places = Places::new(editions.flatten().map(Arc::as_ref));
        self.places = Arc::new(if has_gaps { places.with_gaps() } else { places });
    }
}

impl Database {
    fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            seen: None,
            ranges: None,
            edition: None,
            read: None,
            error: None,
        }
    }

    fn look(&mut self) -> bool {
        let looked =
            Edition::of(&self.file).with_context(|| format!("cannot open {}", self.file.display()));
        if self.seen.is_some() && self.seen == looked.as_ref().ok().copied() {
            return false;
        }
        self.seen = None;
        let found = looked.and_then(|edition| self.read(edition));
        let file = self.file.display();
        match found {
            Ok((ranges, edition)) => {
                log::info!("database {file}: {} entries", ranges.count);
                self.ranges = Some(Arc::new(ranges));
                self.edition = edition.modified;
                self.read = Some(Timestamp::now());
                self.error = None;
                true
            }
            Err(error) => {
                let error = format!("{error:#}");
                let is_new = self.error.as_ref() != Some(&error);
                if is_new {
                    let stays = match self.ranges {
                        Some(_) => "its last edition stays in use",
                        None => "rules do not apply to whom it alone knows",
                    };
                    log::error!("database {file}: {error}; {stays}");
                }
                self.error = Some(error);
                is_new
            }
        }
    }

    fn read(&mut self, edition: Edition) -> Result<(Ranges, Edition)> {
        let bytes = read_file(&self.file)?;
        self.seen = Some(edition);
        Ok((parse_file(&self.file, bytes)?, edition))
    }

    fn status(&self) -> DatabaseStatus {
        DatabaseStatus {
            file: self.file.clone(),
            entries: self.ranges.as_ref().map_or(0, |ranges| ranges.count),
            edition: self.edition,
            read: self.read,
            error: self.error.clone(),
        }
    }
}
