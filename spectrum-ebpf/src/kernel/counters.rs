//! The one place that counts packets.

use aya_ebpf::{btf_maps::PerCpuArray, helpers::bpf_jiffies64, macros::btf_map};
use spectrum_common::{counters::AppCounters, maps::size};
use spectrum_ebpf::{
    parse::Packet,
    sampling,
    verdict::{Outcome, Verdict},
};

#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<AppCounters, { size::APPS }> = PerCpuArray::new();

/// Counts a packet in the cell of its verdict. If it is to be sampled, says how many packets the
/// last sample stands for.
#[inline(always)]
pub(crate) fn count(verdict: &Verdict, packet: &Packet) -> Option<u32> {
    let counters = COUNTERS.get_ptr_mut(verdict.slot)?;
    // SAFETY: the element is this CPU's own, and a program is not interrupted by another on the
    // same queue.
    let counters = unsafe { &mut *counters };
    let cell = match verdict.outcome {
        Outcome::Passed => &mut counters.passed,
        Outcome::Monitored(reason) => counters.monitored.get_mut(reason),
        Outcome::Dropped(reason) => counters.dropped.get_mut(reason),
        Outcome::Answered => &mut counters.challenged,
    };
    cell.packets += 1;
    cell.bytes += u64::from(packet.length);
    // SAFETY: the helper takes no arguments.
    sampling::weigh(&mut counters.pace, unsafe { bpf_jiffies64() })
}
