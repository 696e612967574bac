//! What each app has used of its ceiling.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    helpers::bpf_jiffies64,
    macros::btf_map,
};
use spectrum_common::{
    app::App,
    ceiling::{CeilingShare, CeilingUse},
    maps::size,
};
use spectrum_ebpf::{
    ceiling::{self, Due, Dues},
    parse::Packet,
};

use super::proven;

#[btf_map(name = "ceilings")]
static CEILINGS: Array<CeilingUse, { size::APPS }> = Array::new();

#[btf_map(name = "ceiling_shares")]
static SHARES: PerCpuArray<CeilingShare, { size::APPS }> = PerCpuArray::new();

/// 1 if the packet is of a newcomer, and there is no room for it. A function of its own to the
/// verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn closed(packet: *const Packet, slot: u32, app: *const App) -> u32 {
    // SAFETY: the caller's packet and an element of an array, which is never freed.
    let (packet, app) = unsafe { (packet.as_ref(), app.as_ref()) };
    let (Some(packet), Some(app), Some((dues, share))) = (packet, app, used(slot)) else {
        return 0;
    };
    let is_closed = ceiling::is_closed(&app.ceiling, packet, &dues, share, jiffies());
    u32::from(is_closed && !proven::is_proven(&packet.source, app))
}

/// Charges a packet to its app, of a flow that has proved itself if `is_verified` is not 0: 1 if it is
/// above the ceiling. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn above(
    packet: *const Packet,
    is_verified: u32,
    slot: u32,
    app: *const App,
) -> u32 {
    // SAFETY: as above.
    let (packet, app) = unsafe { (packet.as_ref(), app.as_ref()) };
    let (Some(packet), Some(app), Some((dues, share))) = (packet, app, used(slot)) else {
        return 0;
    };
    let is_proven = is_verified != 0 || proven::is_proven(&packet.source, app);
    let admitted = ceiling::admits(&app.ceiling, packet, is_proven, &dues, share, jiffies());
    u32::from(!admitted)
}

/// What an app has used, and what this CPU has of it.
#[inline(always)]
fn used(slot: u32) -> Option<(Dues<Word>, &'static mut CeilingShare)> {
    let used = CEILINGS.get_ptr_mut(slot)?;
    let share = SHARES.get_ptr_mut(slot)?;
    // SAFETY: places within an element of an array, which is never freed; and an element that is
    // this CPU's own.
    unsafe {
        let dues = Dues {
            packets: Word(&raw mut (*used).packets_due),
            bytes: Word(&raw mut (*used).bytes_due),
            flows: Word(&raw mut (*used).flows_due),
        };
        Some((dues, &mut *share))
    }
}

#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_jiffies64() }
}

/// A word of an element, which is never freed.
struct Word(*mut u64);

impl Due for Word {
    #[inline(always)]
    fn get(&self) -> u64 {
        // SAFETY: the word is there and aligned.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn set(&self, due: u64) {
        // SAFETY: the word is there and aligned; whatever it holds is a time.
        unsafe { self.0.write_volatile(due) }
    }

    /// By an instruction of the machine (kernel 5.12) to which rustc has no other way: its BPF
    /// target has no atomic operations but load and store.
    #[inline(always)]
    fn add(&self, ticks: u64) -> u64 {
        let mut value = ticks;
        // SAFETY: the word is there and aligned, and the instruction touches nothing else.
        unsafe {
            asm!(
                "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
                value = inout(reg) value,
                word = in(reg) self.0,
            );
        }
        value
    }
}
