//! Writes down which sources have proved to be real, and which hold TCP connections now, for the
//! filter to know them.

use std::{net::IpAddr, sync::atomic::Ordering};

use aya::maps::Map;
use spectrum_common::{
    proven::{ProvenSet, SETS, WAYS},
    settings::Settings,
};
use spectrum_ebpf::proven::{Change, Place};

use super::{error::Error, maps::Maps, shared_words::SharedWords};
use crate::config::AppId;

const WORDS: usize = SETS as usize * WAYS;

/// One of the two maps, as shared memory.
pub(super) struct SourceSets(SharedWords);

impl SourceSets {
    pub(super) fn map(name: &'static str, map: &Map) -> Result<Self, Error> {
        SharedWords::map(name, map, WORDS).map(Self)
    }

    /// The set in which a source is, if it is anywhere.
    pub(super) fn set(&self, place: &Place) -> ProvenSet {
        let first = first_word(place);
        ProvenSet {
            entries: std::array::from_fn(|way| self.0.get(first + way)),
        }
    }

    /// Makes the map hold what another holds.
    pub(super) fn copy(&self, from: &Self) {
        for (index, word) in from.0.all().iter().enumerate() {
            self.0.set(index, word.load(Ordering::Relaxed));
        }
    }

    fn change(&self, place: &Place, change: Option<Change>) {
        if let Some(Change { way, entry }) = change {
            self.0.set(first_word(place) + way, entry);
        }
    }

    /// Makes the map hold these sources and no other; returns how many found no room.
    fn replace(&self, places: impl Iterator<Item = Place>) -> usize {
        let mut wanted = vec![ProvenSet::default(); SETS as usize];
        let mut left_out = 0;
        for place in places {
            let Some(set) = wanted.get_mut(place.set_index() as usize) else {
                continue;
            };
            let change = place.insert(set);
            let entry = change.and_then(|change| {
                let entry = set.entries.get_mut(change.way)?;
                *entry = change.entry;
                Some(())
            });
            left_out += usize::from(entry.is_none());
        }
        let wanted = wanted.iter().flat_map(|set| set.entries);
        for (index, word) in wanted.enumerate() {
            if self.0.get(index) != word {
                self.0.set(index, word);
            }
        }
        left_out
    }
}

const fn first_word(place: &Place) -> usize {
    place.set_index() as usize * WAYS
}

/// Who has lately proved to be real.
pub struct Proofs<'a> {
    proven: &'a SourceSets,
    settings: Settings,
}

impl Proofs<'_> {
    /// Whether a source (IPv6: its /64) has to an app.
    pub fn hold(&self, app: AppId, source: IpAddr) -> bool {
        let place = place(app, source, self.settings.hash_seed);
        place.is_proven(&self.proven.set(&place), self.settings.epoch)
    }
}

impl Maps {
    /// Notes that each source (IPv6: each /64) has now proved to its app that it is real.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn prove(&self, sources: impl IntoIterator<Item = (AppId, IpAddr)>) -> Result<(), Error> {
        let settings = self.settings()?;
        for (app, source) in sources {
            let place = place(app, source, settings.hash_seed);
            let change = place.prove(&self.proven.set(&place), settings.epoch);
            self.proven.change(&place, change);
        }
        Ok(())
    }

    /// Whether a source has lately proved to an app that it is real.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn is_proven(&self, app: AppId, source: IpAddr) -> Result<bool, Error> {
        Ok(self.proofs()?.hold(app, source))
    }

    /// To ask the same of many.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn proofs(&self) -> Result<Proofs<'_>, Error> {
        Ok(Proofs {
            proven: &self.proven,
            settings: self.settings()?,
        })
    }

    /// Notes for each source (IPv6: each /64) whether it holds a TCP connection with an app now.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn note_sessions(
        &self,
        sources: impl IntoIterator<Item = (AppId, IpAddr, bool)>,
    ) -> Result<(), Error> {
        let seed = self.settings()?.hash_seed;
        for (app, source, is_open) in sources {
            let place = place(app, source, seed);
            let set = self.tcp_sessions.set(&place);
            let change = if is_open {
                place.insert(&set)
            } else {
                place.remove(&set)
            };
            self.tcp_sessions.change(&place, change);
        }
        Ok(())
    }

    /// The same for all that there are. Returns how many found no room: at eight to a set, a few in
    /// a thousand where 100,000 sources are connected.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn replace_sessions(
        &self,
        sources: impl IntoIterator<Item = (AppId, IpAddr)>,
    ) -> Result<usize, Error> {
        let seed = self.settings()?.hash_seed;
        let places = sources
            .into_iter()
            .map(|(app, source)| place(app, source, seed));
        Ok(self.tcp_sessions.replace(places))
    }
}

fn place(app: AppId, source: IpAddr, seed: u32) -> Place {
    Place::new(&source.into(), &app.0, seed)
}
