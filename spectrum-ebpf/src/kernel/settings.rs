//! What holds for the whole interface.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use spectrum_common::settings::Settings;

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();

#[inline(always)]
pub(crate) fn get() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
