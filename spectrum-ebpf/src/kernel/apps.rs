//! The apps and what their rules refer to.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use spectrum_common::{app::App, edge::PortSet, maps::size};

#[btf_map(name = "apps")]
static APPS: Array<App, { size::APPS }> = Array::new();

#[btf_map(name = "reflectors")]
static REFLECTORS: Array<PortSet, { size::REFLECTOR_SETS }> = Array::new();

#[inline(always)]
pub(crate) fn app(slot: u32) -> Option<&'static App> {
    APPS.get(slot)
}

#[inline(always)]
pub(crate) fn reflector_ports(set: u32, word: u16) -> u64 {
    let word = REFLECTORS
        .get(set)
        .and_then(|set| set.words.get(usize::from(word)));
    word.copied().unwrap_or(0)
}
