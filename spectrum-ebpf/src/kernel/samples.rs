//! Samples of all packets.

use core::hint::black_box;

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, xdp_md},
    btf_maps::{PerCpuArray, RingBuf},
    helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_xdp_load_bytes},
    macros::btf_map,
};
use spectrum_common::{
    event::EventBudget,
    maps::size,
    sample::{BYTES, PER_SECOND, Sample},
};
use spectrum_ebpf::sampling;

use super::settings;

#[btf_map(name = "samples")]
static SAMPLES: RingBuf<(), { size::SAMPLE_BYTES }> = RingBuf::new();

#[btf_map(name = "sample_budget")]
static BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Sends the first bytes of a frame of `length` bytes and its verdict, as far as the budget goes.
/// Nobody is woken: who wants samples comes for them.
#[inline(always)]
pub(crate) fn send(ctx: *mut xdp_md, length: u32, verdict: u64, weight: u32) {
    send_sample(ctx, length, verdict, weight);
}

/// Says whether it was sent. A function of its own to the verifier, which wants an answer of each.
#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of a number; fewer than 2^16 CPUs, and at most 128 bytes"
)]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_sample(ctx: *mut xdp_md, length: u32, verdict: u64, weight: u32) -> u32 {
    let (Some(settings), Some(budget)) = (settings::get(), BUDGET.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own.
    let budget = unsafe { &mut *budget };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    if !sampling::admit(budget, PER_SECOND, settings, jiffies) {
        return 0;
    }
    let Some(mut record) = SAMPLES.reserve_untyped::<Sample>(0) else {
        sampling::lost(budget);
        return 0;
    };
    let sample = record.as_mut_ptr();
    // The parts of a number, see `Verdict::to_bits`.
    // SAFETY: the record has room for a sample, and the helper writes `captured` of its bytes;
    // `ctx` is the context of the running program.
    unsafe {
        (*sample).time_ns = bpf_ktime_get_boot_ns();
        (*sample).weight = weight;
        (*sample).app = (verdict >> 32) as u32;
        (*sample).mode = u32::from(verdict as u8);
        (*sample).reason = (verdict as u32) >> 8;
        (*sample).length = length;
        let bytes = (&raw mut (*sample).bytes).cast();
        let captured = captured(length);
        let read = bpf_xdp_load_bytes(ctx, 0, bytes, captured);
        (*sample).captured = if read == 0 { captured as u16 } else { 0 };
        (*sample).cpu = bpf_get_smp_processor_id() as u16;
    }
    record.submit(BPF_RB_NO_WAKEUP.into());
    sampling::sent(budget);
    1
}

/// How many bytes of a frame a sample holds: at least one, or the verifier would not have it read.
///
/// Hidden from the compiler and masked right where it is needed, because older verifiers forget what
/// they knew of a number that lay on the stack meanwhile.
#[inline(always)]
fn captured(length: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "it is 128")]
    const MOST: u32 = BYTES as u32;
    const { assert!(MOST.is_power_of_two()) };
    (black_box(length.clamp(1, MOST) - 1) & (MOST - 1)) + 1
}
