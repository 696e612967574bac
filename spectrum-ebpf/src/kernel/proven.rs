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
type Sources = Array<ProvenSet, { SETS as usize }, { BPF_F_MMAPABLE as usize }>;

#[btf_map(name = "proven")]
static PROVEN: Sources = Sources::new();

#[btf_map(name = "tcp_sessions")]
static TCP_SESSIONS: Sources = Sources::new();

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

/// 1 if the source holds a TCP connection with the app that `app` asks for. A function of its own to
/// the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn has_tcp_session(source: *const Address, app: *const App) -> u32 {
    // SAFETY: the caller's address and an element of an array, which is never freed.
    let (source, app) = unsafe { (source.as_ref(), app.as_ref()) };
    let (Some(source), Some(app), Some(settings)) = (source, app, settings::get()) else {
        return 0;
    };
    let place = Place::new(source, &app.session_app, settings.hash_seed);
    let set = TCP_SESSIONS.get(place.set_index());
    u32::from(set.is_some_and(|set| place.is_in(set)))
}
