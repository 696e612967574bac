//! The lists and the filter in front of them.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
    helpers::bpf_ktime_get_boot_ns,
    macros::btf_map,
};
use spectrum_common::{
    access::{AccessEntry, AccessKey},
    address::Address,
    maps::size,
};
use spectrum_ebpf::access::{self, Family, Listed, Lists};

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

/// What the most specific entry of a scope says of `source`.
#[inline(always)]
pub(crate) fn look_up(scope: u32, source: &Address) -> Listed {
    const BLOCKED: u32 = Listed::Blocked as u32;
    const ALLOWED: u32 = Listed::Allowed as u32;
    match find_listed(scope, source) {
        BLOCKED => Listed::Blocked,
        ALLOWED => Listed::Allowed,
        _ => Listed::Nowhere,
    }
}

/// The number of a [`Listed`]. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_listed(scope: u32, source: *const Address) -> u32 {
    // SAFETY: the caller's address, which nobody changes meanwhile.
    match unsafe { source.as_ref() } {
        Some(source) => access::look_up(&AccessMaps, scope, source) as u32,
        None => Listed::Nowhere as u32,
    }
}

/// The maps above.
pub(crate) struct AccessMaps;

impl Lists for AccessMaps {
    #[inline(always)]
    fn filter(&self, family: Family, word: u32) -> u64 {
        let bits = match family {
            Family::Ipv4 => FILTER_V4.get(word),
            Family::Ipv6 => FILTER_V6.get(word),
        };
        bits.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn host(&self, key: &AccessKey) -> Option<AccessEntry> {
        // SAFETY: the value is copied at once. Should the daemon replace it meanwhile, this packet
        // may see a part of both entries.
        unsafe { HOSTS.get(key).copied() }
    }

    #[inline(always)]
    fn net(&self, bits: u32, key: &AccessKey) -> Option<AccessEntry> {
        NETS.get(&Key::new(bits, *key)).copied()
    }

    #[inline(always)]
    fn boot_seconds(&self) -> u32 {
        const NANOS_PER_SECOND: u64 = 1_000_000_000;
        // SAFETY: the helper takes no arguments.
        let nanos = unsafe { bpf_ktime_get_boot_ns() };
        #[expect(clippy::cast_possible_truncation, reason = "136 years")]
        let seconds = (nanos / NANOS_PER_SECOND) as u32;
        seconds
    }
}
