//! The frame. The only pointer arithmetic on packets is here.

use aya_ebpf::{cty::c_void, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use spectrum_ebpf::packet::{Bytes, Window};

/// Offsets that the parser may compute: beyond the longest chain of headers that it follows, and
/// below what the verifier allows.
const MAX_POSITION: usize = 0x3fff;

/// The bytes of a frame that lie in its first buffer. A driver puts the headers there; a header
/// that is not there cannot be read.
pub(crate) struct FrameBytes<'ctx> {
    ctx: &'ctx XdpContext,
    start: usize,
    end: usize,
}

impl<'ctx> FrameBytes<'ctx> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'ctx XdpContext) -> Self {
        Self {
            ctx,
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl FrameBytes<'_> {
    /// Where the `N` bytes at `offset` lie, for a helper to read; `None` if they are not all there.
    #[inline(always)]
    pub(crate) fn pointer<const N: usize>(&self, offset: usize) -> Option<*mut c_void> {
        let start = self.start + self.position(offset);
        (start + N <= self.end).then_some(start as *mut c_void)
    }

    /// Writes `bytes` at `offset`, or nothing if there is no room.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        let start = self.start + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: as in `read`; the program may write to the frame.
        unsafe { (start as *mut [u8; N]).write(*bytes) };
        Some(())
    }
}

impl Bytes for FrameBytes<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "a frame is far shorter")]
    #[inline(always)]
    fn first_length(&self) -> u32 {
        (self.end - self.start) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "a frame is far shorter")]
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: `ctx` is the context of the running program.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as u32 }
    }

    /// Adds a zero of which the verifier only knows that it is a number. It would otherwise follow
    /// the parser once for each combination of tags, options and extension headers before a
    /// position: a million instructions instead of ten thousand.
    #[inline(always)]
    fn position(&self, offset: usize) -> usize {
        let zero = (self.end - self.start) >> u32::BITS;
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

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<impl Window<N>> {
        let start = self.start + offset;
        (start + N <= self.end).then_some(FrameWindow { start })
    }
}

/// `N` bytes of a frame that it has.
struct FrameWindow<const N: usize> {
    start: usize,
}

impl<const N: usize> Window<N> for FrameWindow<N> {
    #[inline(always)]
    fn part<const AT: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        const { assert!(AT + LENGTH <= N) };
        // SAFETY: the frame has these bytes; they need no alignment, and every bit pattern is one.
        unsafe { ((self.start + AT) as *const [u8; LENGTH]).read() }
    }
}
