//! What comes to an app more often than it should.

use aya_ebpf::{btf_maps::Array, helpers::bpf_jiffies64, macros::btf_map};
use spectrum_common::{app::App, maps::size, surge::Surge};
use spectrum_ebpf::surge::{self, Threshold};

use super::settings;

#[btf_map(name = "challenges")]
static CHALLENGES: Array<Surge, { size::APPS }> = Array::new();

#[btf_map(name = "strays")]
static STRAYS: Array<Surge, { size::APPS }> = Array::new();

/// Counts a SYN to the app at `slot`; 1 if there are too many. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn syn_surges(slot: u32, app: *const App) -> u32 {
    // SAFETY: an element of an array, which is never freed.
    match unsafe { app.as_ref() } {
        Some(app) => observe(CHALLENGES.get_ptr_mut(slot), Threshold::of_syns(app)),
        None => 0,
    }
}

/// The same of a segment that belongs to no connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn stray_surges(slot: u32, app: *const App) -> u32 {
    // SAFETY: as above.
    match unsafe { app.as_ref() } {
        Some(app) => observe(STRAYS.get_ptr_mut(slot), Threshold::of_strays(app)),
        None => 0,
    }
}

#[inline(always)]
fn observe(surge: Option<*mut Surge>, threshold: Threshold) -> u32 {
    let (Some(surge), Some(settings)) = (surge, settings::get()) else {
        return 0;
    };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    // SAFETY: an element of an array. Other CPUs write to it as well; the words they mix up are
    // counts and clocks, whose every value is valid.
    let surge = unsafe { &mut *surge };
    u32::from(surge::observe(
        surge,
        threshold,
        jiffies,
        settings.ticks_per_second,
    ))
}
