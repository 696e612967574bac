//! Flows that have proved themselves: where one is kept, and how long.

use spectrum_common::flow::{Flow, FlowSet, SETS, WAYS};

use crate::{limits::mix, parse::Packet};

/// Bits of [`Flow::owner`] that hold the slot. Those above are the flow's, and tell it from the
/// others of its set; the lowest of its hash, which the slot replaces, have chosen the set.
const SLOT_MASK: u64 = 0xffff;

const _: () = assert!(SETS as u64 == SLOT_MASK + 1);

/// The two ends of a TCP flow, hashed. Whoever does not know the seed cannot aim at another flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    hash: u64,
}

/// When a proof is made or asked for, or a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub jiffies: u64,
    /// [`Settings::policy_generation`](spectrum_common::settings::Settings::policy_generation), not 0.
    pub generation: u32,
}

impl FlowKey {
    /// `seed` is [`Settings::hash_seed`](spectrum_common::settings::Settings::hash_seed).
    #[inline(always)]
    pub const fn of(packet: &Packet, seed: u32) -> Self {
        let ports = (packet.source_port as u32) << 16 | packet.destination_port as u32;
        let [s0, s1, s2, s3] = packet.source.words_be();
        let [d0, d1, d2, d3] = packet.destination.words_be();
        let mut hash = mix(word(seed, ports));
        if !packet.source.is_ipv4() {
            hash = mix(hash ^ word(s0, s1));
            hash = mix(hash ^ word(s2, d2));
            hash = mix(hash ^ word(d0, d1));
        }
        Self {
            hash: mix(hash ^ word(s3, d3)),
        }
    }

    /// The element of the map `flows` that this flow can be in.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn set_index(&self) -> u32 {
        self.hash as u32 & (SETS - 1)
    }

    #[inline(always)]
    const fn owns(&self, flow: &Flow) -> bool {
        flow.owner ^ self.hash <= SLOT_MASK
    }
}

/// The slot that a flow has proved itself to, at most `max_age` jiffies ago and under the policy
/// of now.
#[inline(always)]
pub fn find(set: &FlowSet, key: &FlowKey, now: Now, max_age: u32) -> Option<u32> {
    let mut flows = set.flows.iter();
    flows.find_map(|flow| {
        let good = key.owns(flow) && age(flow, now).is_some_and(|age| age < max_age);
        good.then_some((flow.owner & SLOT_MASK) as u32)
    })
}

/// Notes the proof of a flow of the app at `slot`. It takes the place of its own last proof, or of
/// the one that is oldest or worth nothing any more.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a way is below WAYS")]
pub fn note(set: &mut FlowSet, key: &FlowKey, slot: u32, now: Now) {
    let mut place = 0;
    let mut place_age = 0;
    for way in 0..WAYS {
        let flow = &set.flows[way];
        if key.owns(flow) {
            place = way;
            break;
        }
        let age = age(flow, now).unwrap_or(u32::MAX);
        if age > place_age {
            place = way;
            place_age = age;
        }
    }
    set.flows[place] = Flow {
        owner: key.hash & !SLOT_MASK | u64::from(slot) & SLOT_MASK,
        proof: u64::from(now.generation) << 32 | now.jiffies & u64::from(u32::MAX),
    };
}

/// Jiffies since the proof; `None` if it was made under another policy, or never.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the parts of a word")]
const fn age(flow: &Flow, now: Now) -> Option<u32> {
    if (flow.proof >> 32) as u32 == now.generation {
        Some((now.jiffies as u32).wrapping_sub(flow.proof as u32))
    } else {
        None
    }
}

#[inline(always)]
const fn word(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[cfg(test)]
mod flows_test;
