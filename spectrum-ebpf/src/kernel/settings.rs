//! What holds for the whole interface.

use aya_ebpf::{btf_maps::Array, helpers::bpf_jiffies64, macros::btf_map};
use spectrum_common::settings::Settings;
use spectrum_ebpf::flows::Now;

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();

#[inline(always)]
pub(crate) fn get() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// When a verdict is remembered, or asked for.
#[inline(always)]
pub(crate) fn now(settings: &Settings) -> Now {
    Now {
        // SAFETY: the helper takes no arguments.
        jiffies: unsafe { bpf_jiffies64() },
        generation: settings.policy_generation,
    }
}
