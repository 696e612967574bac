//! The lists and the filter in front of them.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use spectrum_common::{
    access::{AccessEntry, AccessKey},
    maps::size,
};
use spectrum_ebpf::access::Family;

/// The daemon maps a filter into its memory, to compare and change it at the cost of the words that
/// differ.
type Filter = Array<u64, { size::FILTER_WORDS }, { BPF_F_MMAPABLE as usize }>;

#[btf_map(name = "access_v4")]
static FILTER_V4: Filter = Filter::new();

#[btf_map(name = "access_v6")]
static FILTER_V6: Filter = Filter::new();

#[btf_map(name = "access_hosts")]
static HOSTS: HashMap<AccessKey, AccessEntry, { size::ACCESS_HOSTS }> = HashMap::new();

#[btf_map(name = "access_nets")]
static NETS: LpmTrie<AccessKey, AccessEntry, { size::ACCESS_NETS }> = LpmTrie::new();

#[inline(always)]
pub(crate) fn filter(family: Family, word: u32) -> u64 {
    let bits = match family {
        Family::Ipv4 => FILTER_V4.get(word),
        Family::Ipv6 => FILTER_V6.get(word),
    };
    bits.copied().unwrap_or(0)
}

#[inline(always)]
pub(crate) fn host(key: &AccessKey) -> Option<AccessEntry> {
    // SAFETY: the value is copied at once. Should the daemon replace it meanwhile, this packet may
    // see a part of both entries.
    unsafe { HOSTS.get(key).copied() }
}

#[inline(always)]
pub(crate) fn net(bits: u32, key: &AccessKey) -> Option<AccessEntry> {
    NETS.get(&Key::new(bits, *key)).copied()
}
