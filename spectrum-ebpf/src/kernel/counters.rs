//! The one place that counts packets.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use spectrum_common::{counters::AppCounters, maps::size};
use spectrum_ebpf::{
    parse::Packet,
    verdict::{Outcome, Verdict},
};

#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<AppCounters, { size::APPS }> = PerCpuArray::new();

/// Counts a packet in the cell of its verdict.
#[inline(always)]
pub(crate) fn count(verdict: &Verdict, packet: &Packet) {
    let Some(counters) = COUNTERS.get_ptr_mut(verdict.slot) else {
        return;
    };
    // SAFETY: the element is this CPU's own, and a program is not interrupted by another on the
    // same queue.
    let counters = unsafe { &mut *counters };
    let cell = match verdict.outcome {
        Outcome::Passed => &mut counters.passed,
        Outcome::Monitored(reason) => counters.monitored.get_mut(reason),
        Outcome::Dropped(reason) => counters.dropped.get_mut(reason),
    };
    cell.packets += 1;
    cell.bytes += u64::from(packet.length);
}
