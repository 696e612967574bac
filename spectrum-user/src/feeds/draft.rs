//! The feeds of a configuration that is not in force yet: the copies of those that are new are read
//! before it is, off the main loop, and nothing of them is followed unless it comes to that.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use ipnet::IpNet;

use super::{Contents, Feeds, Held, read, room::Room, spare, store::Store};
use crate::{config::Feed, dataplane::lists::Prefixes};

/// What has to be known of the feeds that are followed, for whoever drafts what comes next.
pub struct Known {
    /// With whom their entries must not block.
    followed: Vec<(Feed, Vec<IpNet>)>,
    room: Room,
}

/// What is to be followed.
pub struct Draft {
    feeds: Vec<Feed>,
    spared: Vec<IpNet>,
    /// Entries that documents list.
    documents: usize,
    store: Store,
    /// Of the feeds that are new, by name.
    copies: BTreeMap<String, Result<Contents>>,
}

impl Known {
    /// Those that are new start with their copy in `state_dir`, those that changed start anew, the
    /// others go on. `documents`: the entries that these list. Blocks.
    pub fn draft(
        self,
        feeds: &[Feed],
        protected: &[IpNet],
        documents: usize,
        state_dir: &Path,
    ) -> Draft {
        let mut spared = protected.to_vec();
        spared.extend(spare::session());
        let mut draft = Draft {
            feeds: feeds.to_vec(),
            spared,
            documents,
            store: Store::new(state_dir),
            copies: BTreeMap::new(),
        };
        self.room.set_documents(documents);
        let (stay, go): (Vec<_>, Vec<_>) = self
            .followed
            .iter()
            .partition(|(feed, spared)| draft.goes_on(feed, spared));
        for (feed, _) in go {
            self.room.release(&feed.name);
        }
        for feed in feeds {
            if !stay.iter().any(|(known, _)| known == feed) {
                let copy = draft.load_copy(feed, &self.room);
                draft.copies.insert(feed.name.clone(), copy);
            }
        }
        draft
    }
}

impl Draft {
    fn goes_on(&self, feed: &Feed, spared: &[IpNet]) -> bool {
        self.spared == spared && self.feeds.contains(feed)
    }

    fn load_copy(&self, feed: &Feed, room: &Room) -> Result<Contents> {
        let Some((body, about)) = self.store.load(feed) else {
            return Ok(Contents::default());
        };
        let contents = read(feed, &self.spared, &body, about.edition, about.fetched)?;
        room.claim(feed, contents.entries)?;
        Ok(contents)
    }
}

impl Feeds {
    /// What has to be known for a draft.
    pub fn known(&self) -> Known {
        let held = self.held.values();
        Known {
            followed: held
                .map(|held| (held.feed.clone(), held.spared.clone()))
                .collect(),
            room: self.room.copy(),
        }
    }

    /// What each feed will list, by name, once a draft is followed.
    pub fn lists_with<'a>(
        &'a self,
        draft: &'a Draft,
    ) -> impl Iterator<Item = (&'a Feed, Arc<Prefixes>)> {
        let held = self.held.values();
        let stay = held.filter(|held| draft.goes_on(&held.feed, &held.spared));
        let stay = stay.map(|held| (&held.feed, held.newest()));
        let new = draft.feeds.iter().filter_map(|feed| {
            let copy = draft.copies.get(&feed.name)?.as_ref();
            Some((feed, copy.ok()?))
        });
        let all: BTreeMap<&str, _> = stay
            .chain(new)
            .map(|(feed, contents)| (feed.name.as_str(), (feed, contents)))
            .collect();
        all.into_values()
            .filter_map(|(feed, contents)| Some((feed, Arc::clone(contents.prefixes.as_ref()?))))
    }

    /// Follows the feeds of a draft from now on.
    pub fn adopt(&mut self, mut draft: Draft) {
        self.held.retain(
            |name,
             Held {
                 feed, spared, task, ..
             }| {
                let stays = draft.goes_on(feed, spared);
                if !stays {
                    task.abort();
                    self.room.release(name);
                }
                stays
            },
        );
        self.room.set_documents(draft.documents);
        for feed in draft.feeds {
            if let Some(copy) = draft.copies.remove(&feed.name) {
                let name = feed.name.clone();
                let held = self.start(feed, draft.spared.clone(), draft.store.clone(), copy);
                self.held.insert(name, held);
            }
        }
    }
}
