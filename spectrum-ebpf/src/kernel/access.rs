//! The lists.

use core::borrow::Borrow;

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE},
    btf_maps::{Array, ArrayOfMaps},
    helpers::bpf_ktime_get_boot_ns,
    macros::btf_map,
};
use spectrum_common::{
    access::{HINT_WORDS, LINE_WORDS, Line},
    address::Address,
};
use spectrum_ebpf::access::{self, Listed, Lists, entry::Key};

/// Not part of the table, of which every line costs the call of a helper, and of one element, to which
/// all offsets are known: a source that nobody lists costs one look at memory.
#[btf_map(name = "access_hints")]
static HINTS: Array<[u64; HINT_WORDS], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A table. Each has the size that its entries need (`BPF_F_INNER_MAP`, kernel 5.10), and the
/// daemon builds it in memory that it shares (`BPF_F_MMAPABLE`).
///
/// Of arrays and not of [`Line`]: before 6.2 the kernel asks the type of a struct, which the daemon's
/// tables do not have, and finds that these differ from what is declared here.
type Table = Array<[u64; LINE_WORDS], 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;

/// The table in use. To replace it takes one write.
#[btf_map(name = "access")]
static ACCESS: ArrayOfMaps<Table, 1> = ArrayOfMaps::new();

/// See [`access::may_be_listed`].
#[inline(always)]
pub(crate) fn may_be_listed(source: &Address) -> bool {
    access::may_be_listed(hint, source)
}

#[inline(always)]
fn hint(word: u32) -> u64 {
    let word = HINTS.get(0).and_then(|words| words.get(word as usize));
    word.copied().unwrap_or(0)
}

/// What the most specific entry of a scope says of `source`.
#[inline(always)]
pub(crate) fn look_up(scope: u32, source: &Address) -> Listed {
    let found = if source.is_ipv4() {
        find_listed_v4(scope, source.low_bits())
    } else {
        let [high, low] = source.halves();
        find_listed_v6(scope, high, low)
    };
    match found {
        BLOCKED => Listed::Blocked,
        ALLOWED => Listed::Allowed,
        _ => Listed::Nowhere,
    }
}

const NOWHERE: u32 = 0;
const BLOCKED: u32 = 1;
const ALLOWED: u32 = 2;
const REPLACED: u32 = 3;

fn number(found: Listed) -> u32 {
    match found {
        Listed::Nowhere => NOWHERE,
        Listed::Blocked => BLOCKED,
        Listed::Allowed => ALLOWED,
    }
}

// Functions of their own to the verifier, which would otherwise follow every way through a line
// for every length that a prefix may have.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_listed_v4(scope: u32, address: u32) -> u32 {
    OneTable::get().map_or(NOWHERE, |table| {
        number(access::look_up_v4(&table, scope, address))
    })
}

/// Should the table be replaced while it is read, the next one is asked: two cannot follow each other
/// as fast as that.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_listed_v6(scope: u32, high: u64, low: u64) -> u32 {
    let mut found = NOWHERE;
    for _ in 0..2 {
        let seed = OneTable::get().map_or(0, |table| access::seed(&table));
        for part in 0..access::PARTS_V6 {
            found = find_part_v6(seed, scope, high, low, part);
            if found != NOWHERE {
                break;
            }
        }
        if found != REPLACED {
            break;
        }
    }
    found
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_part_v6(seed: u64, scope: u32, high: u64, low: u64, part: u32) -> u32 {
    OneTable::get().map_or(NOWHERE, |table| {
        access::look_up_v6(&table, seed, scope, [high, low], part).map_or(REPLACED, number)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn value_v6(seed: u64, tag: u64, high: u64, low: u64, choice: usize) -> u64 {
    let key = Key::from_words([tag, high, low]);
    OneTable::get().map_or(access::ABSENT, |table| {
        access::value_v6(&table, seed, key, choice)
    })
}

/// One table, whatever takes its place meanwhile.
struct OneTable(&'static Table);

impl OneTable {
    #[inline(always)]
    fn get() -> Option<Self> {
        ACCESS.get(0).map(Self)
    }
}

impl Lists for OneTable {
    #[inline(always)]
    fn hint(&self, word: u32) -> u64 {
        hint(word)
    }

    #[inline(always)]
    fn line(&self, index: u32) -> Option<impl Borrow<Line>> {
        let words = self.0.get(index)?;
        // SAFETY: a line is its words, and nothing else.
        Some(unsafe { &*(&raw const *words).cast::<Line>() })
    }

    #[inline(always)]
    fn value_v6(&self, seed: u64, key: Key, choice: usize) -> u64 {
        let [tag, high, low] = key.words();
        value_v6(seed, tag, high, low, choice)
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
