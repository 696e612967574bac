//! Where the facts about a packet lie.

use core::{hint::black_box, mem::MaybeUninit};

use spectrum_ebpf::parse::Packet;

const WORDS: usize = size_of::<Packet>() / size_of::<u64>();

/// A place on the stack, all of which is written before the verifier is shown a pointer to it.
pub(crate) struct Place(MaybeUninit<Packet>);

impl Place {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// An empty packet. The compiler is kept from holding it in registers, which would cost a copy
    /// of every field at every early end of the parser.
    #[inline(always)]
    pub(crate) fn packet(&mut self) -> &mut Packet {
        let words = self.0.as_mut_ptr().cast::<u64>();
        for index in 0..WORDS {
            // SAFETY: within the place, and aligned as a packet is. Volatile, or it would become
            // a call to memset.
            unsafe { words.add(index).write_volatile(0) };
        }
        let packet = black_box(self.0.as_mut_ptr());
        // SAFETY: every field of a packet may be zero.
        let packet = unsafe { &mut *packet };
        packet.defect = None;
        packet
    }
}
