//! The frame. The only pointer arithmetic on packets is here.

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use spectrum_ebpf::packet::Bytes;

/// The bytes of a frame that lie in its first buffer. A driver puts the headers there; a header
/// that is not there cannot be read.
pub(crate) struct FrameBytes {
    start: usize,
    end: usize,
    length: u32,
}

impl FrameBytes {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        // SAFETY: `ctx` is the context of the running program.
        let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
            #[expect(clippy::cast_possible_truncation, reason = "a frame is far shorter")]
            length: length as u32,
        }
    }
}

impl Bytes for FrameBytes {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
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
