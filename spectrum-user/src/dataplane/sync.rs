//! Writes the difference between a plan and the maps: the only way down to the kernel.
//!
//! The order keeps every packet under a complete policy. What apps point to (sets of ports,
//! entries of lists, signatures) comes first, then the apps, then new pages in the half of the page map that
//! is not in use, then the edges, each of which switches to the new pages at once. What nobody
//! points to any more goes last.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::PerCpuValues;
use spectrum_common::{
    address::Address,
    app::App,
    counters::AppCounters,
    edge::{Edge, EdgeSet, PortPage, PortSet},
    maps::{self as names, size},
    proven::EPOCH_SECONDS,
    settings::Settings,
    surge::Surge,
};
use spectrum_ebpf::edges;

use super::{
    attach::AttachMode,
    clock,
    error::Error,
    lists::{self, Draft},
    maps::Maps,
    plan::{Plan, Slots},
    random,
    signatures::Update,
};

/// What an application of a plan changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub apps_added: usize,
    pub apps_updated: usize,
    pub apps_removed: usize,
    pub edges_changed: usize,
    /// The table of the lists was built anew.
    pub lists_replaced: bool,
    /// The same for the table of places.
    pub places_replaced: bool,
}

impl Applied {
    /// Whether the maps were as they should be already.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The slots of the apps that the maps hold.
pub(super) fn slots_in_use(maps: &Maps) -> Result<Slots, Error> {
    let apps = maps.apps_in_use()?;
    Ok(apps.into_iter().map(|(slot, app)| (app.id, slot)).collect())
}

/// Notes in the settings how the program is attached now.
pub(super) fn note_attachment(maps: &mut Maps, index: u32, mode: AttachMode) -> Result<(), Error> {
    let mut settings = maps.settings()?;
    settings.interface_index = index;
    settings.attach_mode = mode.number();
    write_settings(maps, settings)
}

/// Makes the maps hold what `plan` says; `draft` is the table of its lists, if it was built ahead,
/// and `applied` is what was done of it already.
pub(super) fn apply(
    maps: &mut Maps,
    plan: &Plan,
    draft: Option<Draft>,
    mut applied: Applied,
) -> Result<Applied, Error> {
    let before: BTreeMap<u32, App> = maps.apps_in_use()?.into_iter().collect();
    let lists = lists::replace(maps, plan, draft)?;
    let slots = plan.apps.keys().copied().collect();
    let signatures = Update::documented(maps, &plan.rules, &slots)?;
    let apps = placed_apps(maps, plan, &before, &lists, &signatures)?;

    applied.lists_replaced = lists.replaced;
    for (&slot, app) in &apps {
        match before.get(&slot) {
            Some(same) if same == app => continue,
            Some(_) => applied.apps_updated += 1,
            None => {
                clear_counters(maps, slot)?;
                clear_surges(maps, slot)?;
                applied.apps_added += 1;
            }
        }
        write_app(maps, slot, *app)?;
    }
    apply_settings(maps, plan)?;
    applied.edges_changed = apply_edges(maps, plan)?;
    for &slot in before.keys().filter(|slot| !apps.contains_key(slot)) {
        write_app(maps, slot, App::default())?;
        applied.apps_removed += 1;
    }
    signatures.finish(maps)?;
    if !applied.is_nothing() {
        forget_verdicts(maps)?;
    }
    Ok(applied)
}

/// Has every packet meet the rules again, also of flows that have proved themselves and of sources that
/// were refused, after a change of any of them. A packet that is under way has met the rules of before,
/// and must not be remembered under the new number: it is waited for.
pub(super) fn forget_verdicts(maps: &mut Maps) -> Result<(), Error> {
    maps.access.announce()?;
    let settings = maps.settings()?;
    let policy_generation = match settings.policy_generation {
        u32::MAX => 1,
        number => number + 1,
    };
    write_settings(
        maps,
        Settings {
            policy_generation,
            ..settings
        },
    )
}

pub(super) fn write_app(maps: &mut Maps, slot: u32, app: App) -> Result<(), Error> {
    maps.apps
        .set(slot, app, 0)
        .map_err(Error::map(names::APPS, "write"))
}

/// The apps of the plan, as they stand in the map: with the places of their reflector sets and of
/// the masks of their signatures, and with the knowledge whether any list has an entry of theirs.
fn placed_apps(
    maps: &mut Maps,
    plan: &Plan,
    before: &BTreeMap<u32, App>,
    lists: &lists::Replaced,
    signatures: &Update,
) -> Result<BTreeMap<u32, App>, Error> {
    let in_use = before.values().map(|app| app.reflector_set).collect();
    let places = place_sets(maps, &plan.reflector_sets, in_use)?;
    let placed = plan.apps.iter().map(|(&slot, app)| {
        let place = places.get(app.reflector_set as usize).copied();
        let app = App {
            reflector_set: place.unwrap_or_default(),
            has_access_entries: u32::from(lists.scopes.contains(&slot)),
            ..*app
        };
        Ok((slot, signatures.with_masks(slot, app)?))
    });
    placed.collect()
}

/// Finds a place in the map for each set, without overwriting one that is `in_use`.
fn place_sets(
    maps: &mut Maps,
    sets: &[PortSet],
    mut in_use: BTreeSet<u32>,
) -> Result<Vec<u32>, Error> {
    let mut known = maps
        .reflectors
        .iter()
        .collect::<Result<Vec<PortSet>, _>>()
        .map_err(Error::map(names::REFLECTORS, "read"))?;
    let mut places = Vec::with_capacity(sets.len());
    for set in sets {
        let same = known.iter().position(|other| other == set);
        let free = || (0..known.len()).find(|&index| !in_use.contains(&number(index)));
        let index = same.or_else(free).ok_or(Error::Full {
            map: names::REFLECTORS,
            capacity: size::REFLECTOR_SETS,
            remedy: "let more apps share the same protection.reflector_ports",
        })?;
        if same.is_none() {
            maps.reflectors
                .set(number(index), set, 0)
                .map_err(Error::map(names::REFLECTORS, "write"))?;
            if let Some(known) = known.get_mut(index) {
                *known = *set;
            }
        }
        in_use.insert(number(index));
        places.push(number(index));
    }
    Ok(places)
}

/// Counters start at zero for an app that gets the slot of one that is gone.
fn clear_counters(maps: &mut Maps, slot: u32) -> Result<(), Error> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::System {
        action: "cannot count the CPUs",
        source,
    })?;
    let zero = PerCpuValues::try_from(vec![AppCounters::default(); cpus]).map_err(|source| {
        Error::System {
            action: "cannot prepare counters for each CPU",
            source,
        }
    })?;
    maps.counters
        .set(slot, zero, 0)
        .map_err(Error::map(names::COUNTERS, "clear"))
}

/// A flood of the app that had the slot before is none of the new one.
fn clear_surges(maps: &mut Maps, slot: u32) -> Result<(), Error> {
    for (map, name) in [
        (&mut maps.challenges, names::CHALLENGES),
        (&mut maps.strays, names::STRAYS),
    ] {
        map.set(slot, Surge::default(), 0)
            .map_err(Error::map(name, "clear"))?;
    }
    Ok(())
}

fn apply_settings(maps: &mut Maps, plan: &Plan) -> Result<(), Error> {
    let before = maps.settings()?;
    let wanted = Settings {
        hash_seed: if before.hash_seed == 0 {
            random_seed()?
        } else {
            before.hash_seed
        },
        epoch: clock::since_boot_s() / EPOCH_SECONDS,
        interface_index: before.interface_index,
        attach_mode: before.attach_mode,
        policy_generation: match before.policy_generation {
            // Not 1: verdicts of an earlier time may still be remembered.
            0 => random_seed()?,
            number => number,
        },
        ..plan.settings
    };
    if wanted == before {
        return Ok(());
    }
    write_settings(maps, wanted)
}

fn write_settings(maps: &mut Maps, settings: Settings) -> Result<(), Error> {
    maps.settings
        .set(0, settings, 0)
        .map_err(Error::map(names::SETTINGS, "write"))
}

/// Not zero, which stands for "not chosen yet".
fn random_seed() -> Result<u32, Error> {
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    let seed = random::number()? as u32;
    Ok(seed | 1)
}

/// The pages of the map that one configuration may use.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a constant of a few thousand"
)]
const HALF: u32 = (size::PORT_PAGES / 2) as u32;

/// Switches the edges to the pages of the plan and returns how many edges changed.
fn apply_edges(maps: &mut Maps, plan: &Plan) -> Result<usize, Error> {
    let before: BTreeMap<Address, Edge> = maps.edges()?.into_iter().collect();
    let upper = before
        .values()
        .any(|edge| edge.tcp_directory >= HALF || edge.udp_directory >= HALF);
    let (current, other) = if upper { (HALF, 0) } else { (0, HALF) };
    let base = if pages_are(maps, plan, current)? {
        current
    } else {
        write_pages(maps, plan, other)?;
        other
    };

    let wanted = plan.edges.iter().map(|(&address, edge)| {
        let edge = Edge {
            tcp_directory: relocate(edge.tcp_directory, base),
            udp_directory: relocate(edge.udp_directory, base),
            ..*edge
        };
        (address, edge)
    });
    let wanted: BTreeMap<Address, Edge> = wanted.collect();
    write_edges(maps, &before, &wanted)?;
    let lost = before
        .keys()
        .filter(|address| !wanted.contains_key(address));
    let differ = |(address, edge): &(&Address, &Edge)| before.get(address) != Some(edge);
    Ok(wanted.iter().filter(differ).count() + lost.count())
}

/// Writes the sets that differ; first those that gain an address, so that one that moves from set
/// to set is missed in none.
fn write_edges(
    maps: &mut Maps,
    before: &BTreeMap<Address, Edge>,
    wanted: &BTreeMap<Address, Edge>,
) -> Result<(), Error> {
    let held = edge_sets(before)?;
    let wanted = edge_sets(wanted)?;
    let places: BTreeSet<u32> = held.keys().chain(wanted.keys()).copied().collect();
    let set = |sets: &BTreeMap<u32, EdgeSet>, place| sets.get(place).copied().unwrap_or_default();
    let mut changes: Vec<(u32, EdgeSet, EdgeSet)> = places
        .iter()
        .map(|place| (*place, set(&held, place), set(&wanted, place)))
        .filter(|(_, held, wanted)| held != wanted)
        .collect();
    let gains = |held: &EdgeSet, wanted: &EdgeSet| {
        let mut added = wanted.addresses.iter();
        added.any(|address| !held.addresses.contains(address))
    };
    changes.sort_by_key(|(_, held, wanted)| !gains(held, wanted));
    for (place, _, wanted) in changes {
        maps.edges
            .set(place, wanted, 0)
            .map_err(Error::map(names::EDGES, "write"))?;
    }
    Ok(())
}

/// Where the edges lie: the same for the same addresses.
pub(super) fn edge_sets(edges: &BTreeMap<Address, Edge>) -> Result<BTreeMap<u32, EdgeSet>, Error> {
    let mut sets: BTreeMap<u32, EdgeSet> = BTreeMap::new();
    for (&address, &edge) in edges {
        let [first, second] = edges::sets(&address);
        let overflows = sets.get(&first).is_some_and(edges::is_full);
        let set = sets.entry(if overflows { second } else { first });
        let set = set.or_default();
        let mut places = set.addresses.iter_mut().zip(&mut set.edges);
        let free = places.find(|(address, _)| **address == Address::default());
        let (free_address, free_edge) = free.ok_or(Error::Full {
            map: names::EDGES,
            capacity: edges.len(),
            remedy: "use fewer edge addresses on this host",
        })?;
        *free_address = address;
        *free_edge = edge;
    }
    Ok(sets)
}

fn pages_are(maps: &Maps, plan: &Plan, base: u32) -> Result<bool, Error> {
    for (index, page) in relocated_pages(plan, base) {
        let held = maps
            .ports
            .get(&index, 0)
            .map_err(Error::map(names::PORTS, "read"))?;
        if held != page {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_pages(maps: &mut Maps, plan: &Plan, base: u32) -> Result<(), Error> {
    for (index, page) in relocated_pages(plan, base) {
        maps.ports
            .set(index, page, 0)
            .map_err(Error::map(names::PORTS, "write"))?;
    }
    Ok(())
}

/// The pages at their places in the map.
fn relocated_pages(plan: &Plan, base: u32) -> impl Iterator<Item = (u32, PortPage)> + '_ {
    plan.pages.iter().enumerate().map(move |(index, page)| {
        let index = number(index);
        let mut page = *page;
        if plan.directories.contains(&index) {
            for entry in &mut page.entries {
                let place = relocate(u32::from(*entry), base);
                *entry = u16::try_from(place).expect("the map has fewer than 65,536 pages");
            }
        }
        (index + base, page)
    })
}

const fn relocate(index: u32, base: u32) -> u32 {
    if index == 0 { 0 } else { index + base }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("indexes are bounded by the sizes of the maps")
}
