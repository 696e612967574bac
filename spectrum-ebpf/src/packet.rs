//! Access to the bytes of a frame.

/// A frame as it was received, link header first.
///
/// Headers are read as arrays of bytes: they have no alignment, and every bit pattern is a value.
pub trait Bytes {
    /// Bytes that can be read. All of the frame, unless it lies in several buffers.
    fn first_length(&self) -> u32;

    /// Bytes in the frame. The kernel has to be asked for them.
    fn length(&self) -> u32 {
        self.first_length()
    }

    /// `offset` itself. The parser passes every offset through here that it has computed from the
    /// frame, so that an implementation can hide from the verifier what it is.
    fn position(&self, offset: usize) -> usize {
        offset
    }

    /// The `N` bytes at `offset`, or `None` if they are not all there.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn first_length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}
