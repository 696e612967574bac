//! Sources that have proved to be real.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use spectrum_common::{
    address::Address,
    app::App,
    proven::{ProvenSet, SETS},
};
use spectrum_ebpf::proven::Place;

use super::settings;

/// The daemon maps it into its memory, and writes what the proxy has learned. (The kernel lays such
/// an array out from the beginning of a page, so that a set is one cache line.)
#[btf_map(name = "proven")]
static PROVEN: Array<ProvenSet, { SETS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Has a source proved to an app lately that it is real?
#[inline(always)]
pub(crate) fn is_proven(source: &Address, app: &App) -> bool {
    let Some(settings) = settings::get() else {
        return false;
    };
    let place = Place::new(source, &app.id, settings.hash_seed);
    let set = PROVEN.get(place.set_index());
    set.is_some_and(|set| place.is_proven(set, settings.epoch))
}
