//! Where masks, rules and sets lie in their maps: pure, so that it can be tested without a kernel.

use std::collections::{BTreeMap, BTreeSet};

use spectrum_common::{
    maps::{self as names, size},
    signature::{MASKS_PER_APP, SignatureMask, SignatureRule, SignatureSet, WAYS},
};
use spectrum_ebpf::signatures::{hash, set_index, tag};

use super::Signature;
use crate::dataplane::error::Error;

/// Places for a list of signatures.
#[derive(Debug, Default)]
pub struct Placed {
    /// Those in use.
    pub masks: BTreeMap<u32, SignatureMask>,
    pub rules: BTreeMap<u32, SignatureRule>,
    sets: BTreeMap<u32, SignatureSet>,
}

impl Placed {
    /// Keeps the places of what is there already, and takes none that was in use `before`.
    pub fn new(before: &BTreeMap<u32, Signature>, wanted: &[Signature]) -> Result<Self, Error> {
        let mut placed = Self::default();
        for signature in wanted {
            let mask = placed.place_mask(before, signature.mask)?;
            let known = before
                .iter()
                .find(|(index, known)| {
                    known.is_same_rule(signature) && !placed.rules.contains_key(index)
                })
                .map(|(index, _)| *index);
            let free = || {
                let mut all = 0..capacity(size::SIGNATURES);
                all.find(|index| !before.contains_key(index) && !placed.rules.contains_key(index))
            };
            let index = known.or_else(free).ok_or(Error::Full {
                map: names::SIGNATURE_RULES,
                capacity: size::SIGNATURES,
                remedy: "remove some of protection.rules",
            })?;
            let rule = SignatureRule {
                mask,
                ..signature.rule
            };
            placed.rules.insert(index, rule);
            placed.add_to_set(index, &rule)?;
        }
        Ok(placed)
    }

    fn place_mask(
        &mut self,
        before: &BTreeMap<u32, Signature>,
        mask: SignatureMask,
    ) -> Result<u32, Error> {
        let used = before
            .values()
            .map(|known| (known.rule.mask, known.mask))
            .collect::<BTreeMap<_, _>>();
        let mut known = self.masks.iter().chain(&used);
        let same = known.find(|(_, known)| **known == mask);
        let free = || {
            let mut all = 0..capacity(size::SIGNATURE_MASKS);
            all.find(|index| !self.masks.contains_key(index) && !used.contains_key(index))
        };
        let index = same.map(|(index, _)| *index).or_else(free);
        let index = index.ok_or(Error::Full {
            map: names::SIGNATURE_MASKS,
            capacity: size::SIGNATURE_MASKS,
            remedy: "let more of protection.rules look at the same fields",
        })?;
        self.masks.insert(index, mask);
        Ok(index)
    }

    fn add_to_set(&mut self, index: u32, rule: &SignatureRule) -> Result<(), Error> {
        let hash = hash(&rule.key, rule.mask);
        let set = self.sets.entry(set_index(hash)).or_default();
        let mut places = set.tags.iter_mut().zip(&mut set.rules);
        let (place, leads_to) = places.find(|(tag, _)| **tag == 0).ok_or(Error::Full {
            map: names::SIGNATURES,
            capacity: WAYS,
            remedy: "let fewer of protection.rules differ in nothing but ranges",
        })?;
        (*place, *leads_to) = (tag(hash), index);
        Ok(())
    }

    /// The contents of a set.
    pub fn set(&self, index: u32) -> SignatureSet {
        self.sets.get(&index).copied().unwrap_or_default()
    }

    /// The sets that may differ from what the maps hold, if these led to the rules `before`.
    pub(super) fn sets_to_write<'a>(
        &self,
        before: impl Iterator<Item = &'a SignatureRule>,
    ) -> BTreeSet<u32> {
        let left = before.map(|rule| set_index(hash(&rule.key, rule.mask)));
        left.chain(self.sets.keys().copied()).collect()
    }

    /// The masks that an app has to ask for, and how many these are.
    pub fn masks_of(&self, slot: u32) -> Result<([u8; MASKS_PER_APP], u32), Error> {
        let of_slot = |rule: &&SignatureRule| {
            let mask = self.masks.get(&rule.mask).copied().unwrap_or_default();
            let scope = Signature { mask, rule: **rule }.scope();
            scope == 0 || scope == slot
        };
        let rules = self.rules.values().filter(of_slot);
        let used: BTreeSet<u32> = rules.map(|rule| rule.mask).collect();
        let mut masks = [0; MASKS_PER_APP];
        if used.len() > masks.len() {
            return Err(Error::Full {
                map: names::SIGNATURE_MASKS,
                capacity: MASKS_PER_APP,
                remedy: "let more of an app's protection.rules look at the same fields",
            });
        }
        for (place, index) in masks.iter_mut().zip(&used) {
            *place = u8::try_from(*index).unwrap_or_default();
        }
        Ok((masks, capacity(used.len())))
    }
}

fn capacity(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "place_test.rs"]
mod place_test;
