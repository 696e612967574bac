//! What the maps should hold for a configuration: pure, so that it can be tested without a kernel.

mod app;
mod edges;
mod questions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use spectrum_common::{
    access::{GLOBAL_SCOPE, action},
    address::Address,
    app::{App, HOST_SLOT, mode},
    edge::{Edge, PortPage, PortSet},
    geo::asked_by,
    maps::size,
    settings::Settings,
};

use self::edges::Edges;
use super::{
    clock,
    error::Error,
    lists::{FeedList, Prefixes},
    signatures::Signature,
};
use crate::{
    config::{self, Config, Mode},
    geo::{Places, Question},
};

/// The wanted contents of the maps. Indexes of pages and sets are those of the vectors here;
/// [`sync`](super::sync) decides where they lie in the maps.
pub(super) struct Plan {
    /// Only the policy: what belongs to the attachment, and the number of the policy, is zero.
    pub(super) settings: Settings,
    /// By slot. `reflector_set` is an index of [`Plan::reflector_sets`], and what it asks of places
    /// the number of a question. `has_access_entries` is left at 0, because entries of the operator
    /// count too, and so are the masks, because those of mitigations do.
    pub(super) apps: BTreeMap<u32, App>,
    pub(super) reflector_sets: Vec<PortSet>,
    /// Page 0 is empty.
    pub(super) pages: Vec<PortPage>,
    /// Which of the pages hold indexes of pages rather than slots.
    pub(super) directories: BTreeSet<u32>,
    /// The directories are indexes of [`Plan::pages`].
    pub(super) edges: BTreeMap<Address, Edge>,
    /// Of two entries for the same prefix in the same scope, the later list's holds.
    pub(super) lists: Vec<List>,
    /// Custom rules that are not off.
    pub(super) rules: Vec<Signature>,
    /// What apps and rules ask of places, each question once. Their numbers begin after
    /// [`ANYWHERE`](spectrum_common::geo::ANYWHERE), until [`Plan::take_questions`] gives them others.
    pub(super) questions: Vec<Question>,
    pub(super) places: Arc<Places>,
}

/// Prefixes of one scope that are all blocked or all allowed.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) scope: u32,
    pub(super) action: u32,
    pub(super) prefixes: Arc<Prefixes>,
}

/// Slots by the app's id.
pub(super) type Slots = BTreeMap<[u8; 16], u32>;

impl Plan {
    /// Plans for apps that keep their slot in `slots`; new ones get free ones.
    pub(super) fn new(
        config: &Config,
        addresses: &[Address],
        slots: &Slots,
        (feeds, places): (&[FeedList], &Arc<Places>),
    ) -> Result<Self, Error> {
        let mut plan = Self {
            settings: settings(config),
            apps: BTreeMap::new(),
            reflector_sets: Vec::new(),
            pages: vec![PortPage::default()],
            directories: BTreeSet::new(),
            edges: BTreeMap::new(),
            lists: Vec::new(),
            rules: Vec::new(),
            questions: Vec::new(),
            places: Arc::clone(places),
        };
        let host_asks = plan.add_rules(GLOBAL_SCOPE, &config.host.rules)?;
        let assigned = assign_slots(config, slots)?;
        plan.add_feeds(feeds, &assigned);
        plan.add_list(GLOBAL_SCOPE, action::BLOCK, &config.host.block);
        plan.add_list(GLOBAL_SCOPE, action::ALLOW, &config.host.allow);

        let mut edges = Edges::new(addresses);
        for (slot, app) in assigned {
            let reflector_set = plan.intern_set(&app.protection.reflector_ports)?;
            let mut layout = app::layout(config, app, reflector_set);
            if app.ip_firewall {
                plan.add_admission(&mut layout, &app.protection)?;
            }
            if plan.add_rules(slot, &app.protection.rules)? || host_asks {
                layout.geo |= asked_by::RULES;
            }
            plan.apps.insert(slot, layout);
            if app.ip_firewall {
                plan.add_list(slot, action::BLOCK, &app.protection.block);
                plan.add_list(slot, action::ALLOW, &app.protection.allow);
            }
            edges.add(app, slot);
        }
        plan.add_edges(edges)?;
        Ok(plan)
    }

    /// What feeds say holds where no document says something else; what one allows, no other
    /// blocks.
    fn add_feeds(&mut self, feeds: &[FeedList], apps: &[(u32, &config::App)]) {
        let mut lists: Vec<List> = Vec::new();
        for feed in feeds {
            let scopes = match &feed.apps {
                None => vec![GLOBAL_SCOPE],
                Some(ids) => {
                    let named = apps.iter();
                    let named = named.filter(|(_, app)| app.ip_firewall && ids.contains(&app.id));
                    named.map(|(slot, _)| *slot).collect()
                }
            };
            lists.extend(scopes.into_iter().map(|scope| List {
                scope,
                action: feed.action.number(),
                prefixes: Arc::clone(&feed.prefixes),
            }));
        }
        lists.sort_by_key(|list| list.action == action::ALLOW);
        self.lists.extend(lists);
    }

    fn add_list(&mut self, scope: u32, action: u32, prefixes: &[IpNet]) {
        if !prefixes.is_empty() {
            self.lists.push(List {
                scope,
                action,
                prefixes: Arc::new(Prefixes::new(prefixes.to_vec())),
            });
        }
    }

    fn intern_set(&mut self, ports: &[u16]) -> Result<u32, Error> {
        let mut set = PortSet::default();
        for &port in ports {
            if let Some(word) = set.words.get_mut(usize::from(port / 64)) {
                *word |= 1 << (port % 64);
            }
        }
        let known = self.reflector_sets.iter().position(|other| *other == set);
        let index = known.unwrap_or_else(|| {
            self.reflector_sets.push(set);
            self.reflector_sets.len() - 1
        });
        // Half of the map: the other half still serves the configuration before this one.
        if index >= size::REFLECTOR_SETS / 2 {
            return Err(Error::Full {
                map: spectrum_common::maps::REFLECTORS,
                capacity: size::REFLECTOR_SETS / 2,
                remedy: "let more apps share the same protection.reflector_ports",
            });
        }
        Ok(number(index))
    }
}

fn assign_slots<'a>(
    config: &'a Config,
    slots: &Slots,
) -> Result<Vec<(u32, &'a config::App)>, Error> {
    let taken: Vec<u32> = slots.values().copied().collect();
    let all = HOST_SLOT + 1..number(size::APPS);
    let mut free = all.filter(|slot| !taken.contains(slot));
    let mut assigned = Vec::with_capacity(config.apps.len());
    for app in &config.apps {
        let slot = slots.get(&app.id.0).copied().or_else(|| free.next());
        let slot = slot.ok_or(Error::Full {
            map: spectrum_common::maps::APPS,
            capacity: size::APPS - 1,
            remedy: "serve fewer apps on this edge",
        })?;
        assigned.push((slot, app.as_ref()));
    }
    Ok(assigned)
}

fn settings(config: &Config) -> Settings {
    let host = &config.host;
    Settings {
        abi_version: spectrum_common::ABI_VERSION,
        ticks_per_second: clock::ticks_per_second(),
        malformed: mode_number(host.malformed),
        closed_ports: mode_number(host.closed_ports.unwrap_or(Mode::Enforce)),
        events_per_second: host.drop_events_per_second,
        ..Settings::default()
    }
}

pub(super) const fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::Off => mode::OFF,
        Mode::Monitor => mode::MONITOR,
        Mode::Enforce => mode::ENFORCE,
    }
}

/// An index that the maps' sizes keep below 2³².
fn number(index: usize) -> u32 {
    u32::try_from(index).expect("indexes are bounded by the sizes of the maps")
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod plan_test;
