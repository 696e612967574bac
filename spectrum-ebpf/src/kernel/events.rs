//! Samples of what was dropped or monitored.

use aya_ebpf::{
    btf_maps::{PerCpuArray, RingBuf},
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns},
    macros::btf_map,
};
use spectrum_common::{
    event::{DropEvent, EventBudget},
    maps::size,
    settings::Settings,
};
use spectrum_ebpf::{parse::Frame, sampling, verdict::Verdict};

#[btf_map(name = "events")]
static EVENTS: RingBuf<DropEvent, { size::EVENT_BYTES }> = RingBuf::new();

#[btf_map(name = "event_budget")]
static BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Sends an event about a packet that a rule objected to, as far as the budget goes.
#[inline(always)]
pub(crate) fn report(verdict: &Verdict, frame: &Frame, length: u32, settings: &Settings) {
    let Some((reason, mode)) = verdict.outcome.objection() else {
        return;
    };
    let Some(budget) = BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the element is this CPU's own.
    let budget = unsafe { &mut *budget };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    if !sampling::admit(budget, settings, jiffies) {
        return;
    }
    let Some(mut record) = EVENTS.reserve(0) else {
        sampling::lost(budget);
        return;
    };
    let mut event = DropEvent {
        // SAFETY: the helper takes no arguments.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        suppressed: budget.suppressed,
        app: verdict.slot,
        reason: reason as u32,
        mode,
        length,
        ..DropEvent::default()
    };
    if let Frame::Packet(packet) = frame {
        event.source = packet.source;
        event.destination = packet.destination;
        event.protocol = packet.protocol.into();
        if let Some(ports) = &packet.ports {
            event.source_port = ports.source;
            event.destination_port = ports.destination;
        }
    }
    record.write(event);
    record.submit(0);
    sampling::sent(budget);
}
