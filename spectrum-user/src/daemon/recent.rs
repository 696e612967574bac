//! The last sampled drops, for `spectrum status` and `spectrum why`.

use std::collections::VecDeque;

use crate::{dataplane::events::Drop, status::RecentDrop};

/// Events of one filter.
pub(super) struct Sampled {
    pub(super) interface: String,
    pub(super) drops: Vec<Drop>,
}

/// A bounded memory: the oldest give way.
#[derive(Default)]
pub(super) struct RecentDrops {
    drops: VecDeque<(String, Drop)>,
}

const CAPACITY: usize = 256;

impl RecentDrops {
    pub(super) fn add(&mut self, sampled: Sampled) {
        for drop in sampled.drops {
            log::debug!(
                "{}: {} → {} {} {}",
                sampled.interface,
                drop.source,
                drop.destination,
                if drop.enforced {
                    "dropped:"
                } else {
                    "monitored:"
                },
                drop.reason
            );
            if self.drops.len() == CAPACITY {
                self.drops.pop_front();
            }
            self.drops.push_back((sampled.interface.clone(), drop));
        }
    }

    /// Oldest first, with the names that `name` gives to slots.
    pub(super) fn named(&self, name: impl Fn(u32) -> Option<String>) -> Vec<RecentDrop> {
        let named = self.drops.iter().map(|(interface, drop)| RecentDrop {
            interface: Some(interface.clone()),
            app: name(drop.slot),
            drop: drop.clone(),
        });
        named.collect()
    }
}
