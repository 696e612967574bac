//! The frame. The only pointer arithmetic on packets is here.

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use spectrum_ebpf::packet::Bytes;

/// Offsets that the parser may compute: beyond the longest chain of headers that it follows, and
/// below what the verifier allows.
const MAX_POSITION: usize = 0x3fff;

/// The bytes of a frame that lie in its first buffer. A driver puts the headers there; a header
/// that is not there cannot be read.
pub(crate) struct FrameBytes {
    start: usize,
    end: usize,
    length: u64,
}

impl FrameBytes {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
            // SAFETY: `ctx` is the context of the running program.
            length: unsafe { bpf_xdp_get_buff_len(ctx.ctx) },
        }
    }
}

impl Bytes for FrameBytes {
    #[expect(clippy::cast_possible_truncation, reason = "a frame is far shorter")]
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length as u32
    }

    /// Adds a zero of which the verifier only knows that it is a number. It would otherwise follow
    /// the parser once for each combination of tags, options and extension headers before a
    /// position: a million instructions instead of ten thousand.
    #[inline(always)]
    fn position(&self, offset: usize) -> usize {
        let zero = (self.length >> 32) as usize;
        (offset + zero) & MAX_POSITION
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.start + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: the frame has these N bytes, as just checked; an array of bytes needs no
        // alignment, and every bit pattern is one.
        Some(unsafe { (start as *const [u8; N]).read() })
    }
}
