//! What each source has sent of late.

use aya_ebpf::{btf_maps::Array, helpers::bpf_jiffies64, macros::btf_map};
use spectrum_common::{
    app::App,
    source::{SETS, SourceSet},
};
use spectrum_ebpf::limits::{self, Account, Admission, Charge};

#[btf_map(name = "sources")]
static SOURCES: Array<SourceSet, { SETS as usize }> = Array::new();

#[inline(always)]
pub(crate) fn admit(account: &Account, charge: &Charge, app: &App) -> Admission {
    let Some(set) = SOURCES.get_ptr_mut(account.set_index()) else {
        return Admission::default();
    };
    // SAFETY: an element of an array is never freed. Other CPUs write to it as well; the words
    // they mix up are counts and clocks, whose every value is valid.
    let set = unsafe { &mut *set };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    limits::admit(set, account, charge, app, jiffies)
}
