//! Where the facts about a packet lie.

use core::hint::black_box;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use spectrum_ebpf::parse::Packet;

const WORDS: usize = size_of::<Packet>() / size_of::<u64>();

/// Not the stack, of which there is little, and on which the verifier would know too much: a value that
/// it can tell from another makes one more way through all that comes after.
#[btf_map(name = "facts")]
static FACTS: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

/// An empty packet. `None` cannot happen: the map has one element.
#[inline(always)]
pub(crate) fn packet<'run>() -> Option<&'run mut Packet> {
    let words = FACTS.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and a program is not interrupted by another on the same
    // queue. Its words hold a packet, every field of which may be zero.
    unsafe { Some(&mut *words.cast::<Packet>()) }
}

/// The same packet, of which the compiler remembers nothing.
#[inline(always)]
pub(crate) fn read(packet: &mut Packet) -> &Packet {
    black_box(packet)
}
