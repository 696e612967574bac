//! Who takes how much of the lists: an edition that does not fit is refused before anything knows of
//! it, so that it stands in nobody's way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Result, ensure};

use crate::config::Feed;

/// The room that documents and feeds share.
#[derive(Debug)]
pub(super) struct Room {
    /// Entries in all.
    capacity: usize,
    taken: Mutex<Taken>,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    documents: usize,
    /// By name of the feed.
    feeds: BTreeMap<String, usize>,
}

impl Room {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            taken: Mutex::default(),
        }
    }

    /// Another with as much taken: what is claimed of it takes nothing of this one.
    pub(super) fn copy(&self) -> Self {
        Self {
            capacity: self.capacity,
            taken: Mutex::new(self.taken().clone()),
        }
    }

    pub(super) fn set_documents(&self, entries: usize) {
        self.taken().documents = entries;
    }

    /// Takes room for an edition of a feed, in the place of the one before, which keeps its own if
    /// there is not enough.
    pub(super) fn claim(&self, feed: &Feed, entries: usize) -> Result<()> {
        // Each app has a list of its own.
        let lists = feed.apps.len().max(1);
        let wanted = entries.saturating_mul(lists);
        let mut taken = self.taken();
        let others = taken.feeds.iter().filter(|(name, _)| **name != feed.name);
        let others = others.map(|(_, entries)| entries).sum::<usize>() + taken.documents;
        let left = self.capacity.saturating_sub(others);
        ensure!(
            wanted <= left,
            "{entries} entries on {lists} lists are {wanted}, and there is room for {left}: \
             documents and other feeds take {others} of {}",
            self.capacity
        );
        taken.feeds.insert(feed.name.clone(), wanted);
        Ok(())
    }

    pub(super) fn release(&self, name: &str) {
        self.taken().feeds.remove(name);
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::config::{FeedAction, FeedSource};

    fn feed(name: &str, apps: &[&str]) -> Feed {
        Feed {
            name: name.to_owned(),
            source: FeedSource::File(PathBuf::new()),
            action: FeedAction::Block,
            apps: apps.iter().map(|&app| app.to_owned()).collect(),
            refresh: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let room = Room::new(100);
        let (for_all, for_two) = (feed("all", &[]), feed("two", &["a", "b"]));
        room.set_documents(10);
        room.claim(&for_all, 40).expect("50 of 100");
        room.claim(&for_two, 25).expect("100 of 100");
        let error = room.claim(&for_two, 26).expect_err("102 of 100");
        assert_eq!(
            error.to_string(),
            "26 entries on 2 lists are 52, and there is room for 50: documents and other feeds take \
             50 of 100"
        );
        // The edition before keeps its room, and another takes its place.
        room.claim(&for_all, 41).expect_err("101 of 100");
        room.claim(&for_two, 20).expect("90 of 100");
        room.claim(&for_all, 50).expect("100 of 100");
        room.release("all");
        room.claim(&for_two, 45).expect("100 of 100");
        room.set_documents(11);
        room.claim(&for_two, 45).expect_err("101 of 100");
    }
}
