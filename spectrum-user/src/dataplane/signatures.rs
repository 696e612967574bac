//! Signatures: custom rules of the documents and mitigations, as a table for tuple-space search.
//!
//! [`Signature`] says what a rule looks for; `Placed` (pure) finds places for all of them, and
//! keeps those that have one; the rest writes what differs. New rules are written before the sets
//! that lead to them, and those before the apps that ask for their masks.

mod compile;
mod place;

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::PerCpuValues;
use spectrum_common::{
    app::App,
    maps::{self as names, size},
    signature::{SignatureHits, SignatureMask, SignatureRule, SignatureSet, origin},
};

pub use compile::Signature;
pub use place::Placed;

use super::{clock, error::Error, maps::Maps, sync};

/// What a rule has matched, over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hits {
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
    /// Packets over the rule's rate.
    pub limited: u64,
}

impl Hits {
    /// Adds what another interface counted.
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.limited += other.limited;
    }
}

/// A signature in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    pub signature: Signature,
    /// Index in the map of rules.
    index: u32,
}

impl Maps {
    /// Every signature in the maps.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn signatures(&self) -> Result<Vec<Installed>, Error> {
        let mut installed = Vec::new();
        for (index, rule) in self.signature_rules.iter().enumerate() {
            let rule = rule.map_err(Error::map(names::SIGNATURE_RULES, "read"))?;
            if rule == SignatureRule::default() {
                continue;
            }
            let mask = self
                .signature_masks
                .get(&rule.mask, 0)
                .map_err(Error::map(names::SIGNATURE_MASKS, "read"))?;
            installed.push(Installed {
                signature: Signature { mask, rule },
                index: number(index),
            });
        }
        Ok(installed)
    }

    /// What a signature has matched since it was installed.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn hits(&self, installed: &Installed) -> Result<Hits, Error> {
        let cpus = self
            .signature_hits
            .get(&installed.index, 0)
            .map_err(Error::map(names::SIGNATURE_HITS, "read"))?;
        let mut sum = Hits::default();
        for cpu in cpus.iter() {
            sum.add(Hits {
                packets: cpu.packets,
                bytes: cpu.bytes,
                limited: cpu.limited,
            });
        }
        Ok(sum)
    }

    /// Every mitigation, with what it has matched.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn mitigations(&self) -> Result<Vec<(Signature, Hits)>, Error> {
        let all = self.signatures()?.into_iter();
        let mitigations = all.filter(|installed| installed.signature.is_mitigation());
        mitigations
            .map(|installed| Ok((installed.signature, self.hits(&installed)?)))
            .collect()
    }

    /// What each custom rule has matched, by the slot of its app (0: the host's) and its id.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn rule_hits(&self) -> Result<BTreeMap<(u32, u32), Hits>, Error> {
        let mut hits = BTreeMap::new();
        for installed in self.signatures()? {
            if installed.signature.rule.origin == origin::DOCUMENT {
                let key = (installed.signature.scope(), installed.signature.id());
                hits.insert(key, self.hits(&installed)?);
            }
        }
        Ok(hits)
    }
}

/// Whether there is room for the rules of documents, for the apps at `slots`, and for nothing else.
pub(super) fn ensure_room(
    documented: &[Signature],
    slots: impl IntoIterator<Item = u32>,
) -> Result<(), Error> {
    let placed = Placed::new(&BTreeMap::new(), documented)?;
    let mut slots = slots.into_iter();
    slots.try_for_each(|slot| placed.masks_of(slot).map(drop))
}

/// Puts a mitigation into the maps, in place of one with the same id at the same app.
pub(super) fn put(maps: &mut Maps, signature: Signature) -> Result<(), Error> {
    replace(maps, signature.scope(), signature.id(), Some(signature))
}

/// Takes a mitigation out of the maps.
pub(super) fn remove(maps: &mut Maps, scope: u32, id: u32) -> Result<(), Error> {
    replace(maps, scope, id, None)
}

fn replace(maps: &mut Maps, scope: u32, id: u32, new: Option<Signature>) -> Result<(), Error> {
    let before = maps.signatures()?;
    let is_other = |signature: &Signature| {
        !signature.is_mitigation() || signature.scope() != scope || signature.id() != id
    };
    let installed = before.iter().map(|installed| installed.signature);
    let wanted: Vec<Signature> = installed.filter(is_other).chain(new).collect();
    let update = Update::begin(maps, &before, &wanted)?;
    for (slot, app) in maps.apps_in_use()? {
        let with_masks = update.with_masks(slot, app)?;
        if with_masks != app {
            sync::write_app(maps, slot, with_masks)?;
        }
    }
    update.finish(maps)
}

/// An update of the maps that has begun: the new rules are there, and the apps do not know yet.
pub(super) struct Update {
    placed: Placed,
    gone: BTreeSet<u32>,
}

impl Update {
    /// Writes the rules of the documents, beside the mitigations of apps at `slots`.
    pub(super) fn documented(
        maps: &mut Maps,
        documented: &[Signature],
        slots: &BTreeSet<u32>,
    ) -> Result<Self, Error> {
        let before = maps.signatures()?;
        let now = clock::monotonic_coarse_ns();
        let lives = |signature: &Signature| {
            let rule = &signature.rule;
            signature.is_mitigation()
                && slots.contains(&signature.scope())
                && (rule.expires_ns == 0 || now < rule.expires_ns)
        };
        let mitigations = before.iter().map(|installed| installed.signature);
        let wanted: Vec<Signature> = documented
            .iter()
            .copied()
            .chain(mitigations.filter(lives))
            .collect();
        Self::begin(maps, &before, &wanted)
    }

    fn begin(maps: &mut Maps, before: &[Installed], wanted: &[Signature]) -> Result<Self, Error> {
        let known = before
            .iter()
            .map(|installed| (installed.index, installed.signature))
            .collect();
        let placed = Placed::new(&known, wanted)?;
        for (&index, &mask) in &placed.masks {
            write_mask(maps, index, mask)?;
        }
        for (&index, &rule) in &placed.rules {
            match known.get(&index) {
                Some(same) if same.rule == rule => continue,
                Some(_) => {}
                None => clear_counts(maps, index)?,
            }
            write_rule(maps, index, rule)?;
        }
        let gone: BTreeSet<u32> = known
            .keys()
            .copied()
            .filter(|index| !placed.rules.contains_key(index))
            .collect();
        for index in placed.sets_to_write(known.values().map(|signature| &signature.rule)) {
            write_set(maps, index, placed.set(index))?;
        }
        Ok(Self { placed, gone })
    }

    /// The app with the masks that it has to ask for.
    pub(super) fn with_masks(&self, slot: u32, app: App) -> Result<App, Error> {
        let (masks, mask_count) = self.placed.masks_of(slot)?;
        Ok(App {
            masks,
            mask_count,
            ..app
        })
    }

    /// Forgets the rules that nothing leads to any more.
    pub(super) fn finish(self, maps: &mut Maps) -> Result<(), Error> {
        for index in self.gone {
            write_rule(maps, index, SignatureRule::default())?;
        }
        Ok(())
    }
}

fn write_mask(maps: &mut Maps, index: u32, mask: SignatureMask) -> Result<(), Error> {
    maps.signature_masks
        .set(index, mask, 0)
        .map_err(Error::map(names::SIGNATURE_MASKS, "write"))
}

fn write_rule(maps: &mut Maps, index: u32, rule: SignatureRule) -> Result<(), Error> {
    maps.signature_rules
        .set(index, rule, 0)
        .map_err(Error::map(names::SIGNATURE_RULES, "write"))
}

fn write_set(maps: &mut Maps, index: u32, set: SignatureSet) -> Result<(), Error> {
    let held = maps
        .signatures
        .get(&index, 0)
        .map_err(Error::map(names::SIGNATURES, "read"))?;
    if held == set {
        return Ok(());
    }
    maps.signatures
        .set(index, set, 0)
        .map_err(Error::map(names::SIGNATURES, "write"))
}

/// A rule that is new at its place has matched nothing and owes nothing.
fn clear_counts(maps: &mut Maps, index: u32) -> Result<(), Error> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::System {
        action: "cannot count the CPUs",
        source,
    })?;
    let zero = PerCpuValues::try_from(vec![SignatureHits::default(); cpus]).map_err(|source| {
        Error::System {
            action: "cannot prepare counters for each CPU",
            source,
        }
    })?;
    maps.signature_hits
        .set(index, zero, 0)
        .map_err(Error::map(names::SIGNATURE_HITS, "clear"))?;
    maps.signature_rates
        .set(index, 0, 0)
        .map_err(Error::map(names::SIGNATURE_RATES, "clear"))
}

fn number(index: usize) -> u32 {
    debug_assert!(index < size::SIGNATURES);
    u32::try_from(index).unwrap_or(u32::MAX)
}
