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

    /// The same, to be read in parts.
    fn window<const N: usize>(&self, offset: usize) -> Option<impl Window<N>> {
        self.read(offset)
    }
}

/// `N` bytes that are all there.
pub trait Window<const N: usize> {
    /// The `LENGTH` bytes at `AT`, which are among the `N`.
    fn part<const AT: usize, const LENGTH: usize>(&self) -> [u8; LENGTH];
}

impl<const N: usize> Window<N> for [u8; N] {
    fn part<const AT: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        const { assert!(AT + LENGTH <= N) };
        core::array::from_fn(|index| self.get(AT + index).copied().unwrap_or_default())
    }
}

impl Bytes for [u8] {
    fn first_length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}
