//! Samples of what was dropped or monitored.

use aya_ebpf::{
    btf_maps::{PerCpuArray, RingBuf},
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns},
    macros::btf_map,
};
use spectrum_common::{
    event::{DropEvent, EventBudget},
    maps::size,
};
use spectrum_ebpf::{parse::Packet, sampling, verdict::Verdict};

use super::settings;

#[btf_map(name = "events")]
static EVENTS: RingBuf<(), { size::EVENT_BYTES }> = RingBuf::new();

#[btf_map(name = "event_budget")]
static BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Sends an event about a packet that a rule objected to, as far as the budget goes.
#[inline(always)]
pub(crate) fn report(verdict: &Verdict, packet: &Packet) {
    let Some((reason, mode)) = verdict.outcome.objection() else {
        return;
    };
    let (Some(settings), Some(budget)) = (settings::get(), BUDGET.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: the element is this CPU's own.
    let budget = unsafe { &mut *budget };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    if !sampling::admit(budget, settings.events_per_second, settings, jiffies) {
        return;
    }
    let Some(mut record) = EVENTS.reserve_untyped::<DropEvent>(0) else {
        sampling::lost(budget);
        return;
    };
    record.write(DropEvent {
        // SAFETY: the helper takes no arguments.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        suppressed: budget.suppressed,
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        protocol: packet.protocol.into(),
        app: verdict.slot,
        reason: reason as u32,
        mode,
        length: packet.length,
    });
    record.submit(0);
    sampling::sent(budget);
}
