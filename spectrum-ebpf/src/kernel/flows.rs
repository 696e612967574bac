//! Flows that have proved themselves.

use aya_ebpf::macros::btf_map;
use spectrum_common::{
    flow::{FlowSet, MAX_AGE_SECONDS, SETS},
    settings::Settings,
};
use spectrum_ebpf::{
    flows::{self, FlowKey},
    parse::Packet,
};

use super::{lines::Lines, settings};

#[btf_map(name = "flows")]
static FLOWS: Lines<FlowSet, { SETS as usize }> = Lines::new();

/// The slot of the app that the packet's flow has proved itself to.
#[inline(always)]
pub(crate) fn verified_slot(packet: &Packet, settings: &Settings) -> Option<u32> {
    let now = settings::now(settings);
    let key = FlowKey::of(packet, settings.hash_seed);
    let set = FLOWS.get(key.set_index())?;
    flows::find(set, &key, now, MAX_AGE_SECONDS * settings.ticks_per_second)
}

/// Notes that the packet's flow has proved itself to the app at `slot`.
#[inline(always)]
pub(crate) fn verify(packet: &Packet, slot: u32, settings: &Settings) {
    let now = settings::now(settings);
    let key = FlowKey::of(packet, settings.hash_seed);
    let Some(set) = FLOWS.get_ptr_mut(key.set_index()) else {
        return;
    };
    // SAFETY: an element of an array is never freed. Other CPUs write to it as well, a word at a
    // time: a flow that gets the slot of one and the time of another lasts a little longer or
    // shorter.
    flows::note(unsafe { &mut *set }, &key, slot, now);
}
