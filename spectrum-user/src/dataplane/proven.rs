//! Writes down which sources have proved to be real, for the filter to prefer them.

use std::net::IpAddr;

use aya::maps::Map;
use spectrum_common::proven::{ProvenSet, SETS, WAYS};
use spectrum_ebpf::proven::Place;

use super::{error::Error, maps::Maps, shared_words::SharedWords};
use crate::config::AppId;

/// The map, as shared memory.
pub(super) struct ProvenSources(SharedWords);

impl ProvenSources {
    pub(super) fn map(name: &'static str, map: &Map) -> Result<Self, Error> {
        SharedWords::map(name, map, SETS as usize * WAYS).map(Self)
    }

    pub(super) fn set(&self, place: &Place) -> ProvenSet {
        let first = first_word(place);
        ProvenSet {
            entries: std::array::from_fn(|way| self.0.get(first + way)),
        }
    }

    fn prove(&self, place: &Place, epoch: u32) {
        if let Some(change) = place.prove(&self.set(place), epoch) {
            self.0.set(first_word(place) + change.way, change.entry);
        }
    }
}

const fn first_word(place: &Place) -> usize {
    place.set_index() as usize * WAYS
}

impl Maps {
    /// Notes that each source (IPv6: each /64) has now proved to its app that it is real.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn prove(&self, sources: impl IntoIterator<Item = (AppId, IpAddr)>) -> Result<(), Error> {
        let settings = self.settings()?;
        for (app, source) in sources {
            let place = Place::new(&source.into(), &app.0, settings.hash_seed);
            self.proven.prove(&place, settings.epoch);
        }
        Ok(())
    }

    /// Whether a source has lately proved to an app that it is real.
    ///
    /// # Errors
    /// The kernel refuses the look-up of the settings.
    pub fn is_proven(&self, app: AppId, source: IpAddr) -> Result<bool, Error> {
        let settings = self.settings()?;
        let place = Place::new(&source.into(), &app.0, settings.hash_seed);
        Ok(place.is_proven(&self.proven.set(&place), settings.epoch))
    }
}
