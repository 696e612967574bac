//! Sources that were refused a moment ago.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use spectrum_common::{
    refusal::{REFUSALS, Refusal},
    settings::Settings,
};
use spectrum_ebpf::{parse::Packet, refusals};

use super::settings;

/// Each CPU has its own: a refusal half-written by two of them would be somebody else's.
#[btf_map(name = "refusals")]
static MAP: PerCpuArray<Refusal, { REFUSALS as usize }> = PerCpuArray::new();

/// The slot of the app that has refused the packet's source a moment ago.
#[inline(always)]
pub(crate) fn find(packet: &Packet, settings: &Settings) -> Option<u32> {
    let refusal = MAP.get(refusals::index(packet))?;
    let now = settings::now(settings);
    refusals::find(refusal, packet, now, settings.ticks_per_second)
}

/// Notes that the app at `slot` has refused the packet's source.
#[inline(always)]
pub(crate) fn note(packet: &Packet, slot: u32, settings: &Settings) {
    if let Some(refusal) = MAP.get_ptr_mut(refusals::index(packet)) {
        // SAFETY: the element is this CPU's own, and a program is not interrupted by another.
        refusals::note(
            unsafe { &mut *refusal },
            packet,
            slot,
            settings::now(settings),
        );
    }
}
