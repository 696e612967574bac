//! Countries and autonomous systems.

use core::borrow::Borrow;

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE},
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use spectrum_common::{
    access::{LINE_WORDS, Line},
    address::Address,
    app::App,
    geo::Answers,
};
use spectrum_ebpf::geo::{self, Objection, Places};

/// As the table of the lists, see [`super::access`].
type Table = Array<[u64; LINE_WORDS], 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;

/// The table in use. To replace it takes one write.
#[btf_map(name = "geo")]
static GEO: ArrayOfMaps<Table, 1> = ArrayOfMaps::new();

// Functions of their own to the verifier, and to the table: all of an answer comes of one, whatever
// takes its place meanwhile.

/// The bits of an [`Objection`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn judge_place(
    source: *const Address,
    is_exempt: u32,
    app: *const App,
) -> u32 {
    // SAFETY: the caller's address, which nobody changes meanwhile, and an element of an array, which
    // is never freed.
    let (source, app) = unsafe { (source.as_ref(), app.as_ref()) };
    match (source, app, OneTable::get()) {
        (Some(source), Some(app), Some(table)) => {
            let answers = geo::find(&table, source);
            Objection::to(&answers, is_exempt != 0, app).to_bits()
        }
        (_, _, _) => 0,
    }
}

/// Writes what holds for a source where it is wanted. Returns nothing of interest, but it has to.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn find_answers(source: *const Address, answers: *mut Answers) -> u32 {
    // SAFETY: the caller's address and answers, which nobody else touches.
    let (source, answers) = unsafe { (source.as_ref(), answers.as_mut()) };
    if let (Some(source), Some(answers), Some(table)) = (source, answers, OneTable::get()) {
        *answers = geo::find(&table, source);
    }
    0
}

/// One table, whatever takes its place meanwhile.
struct OneTable(&'static Table);

impl OneTable {
    #[inline(always)]
    fn get() -> Option<Self> {
        GEO.get(0).map(Self)
    }
}

impl Places for OneTable {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<impl Borrow<Line>> {
        let words = self.0.get(index)?;
        // SAFETY: a line is its words, and nothing else.
        Some(unsafe { &*(&raw const *words).cast::<Line>() })
    }
}
