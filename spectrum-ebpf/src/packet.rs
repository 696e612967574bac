//! Access to the bytes of a frame.

/// A frame as it was received, link header first.
///
/// Headers are read as arrays of bytes: they have no alignment, and every bit pattern is a value.
pub trait Bytes {
    /// Bytes in the frame. More than can be read if the frame lies in several buffers.
    fn length(&self) -> u32;

    /// `offset` itself. The parser passes every offset through here that it has computed from the
    /// frame, so that an implementation can hide from the verifier what it is.
    fn position(&self, offset: usize) -> usize {
        offset
    }

    /// The `N` bytes at `offset`, or `None` if they are not all there.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}
