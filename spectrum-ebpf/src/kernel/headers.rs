//! Copies of headers as the kernel's helpers for SYN cookies want them.

use core::hint::black_box;

use aya_ebpf::{bindings::tcphdr, cty::c_void, helpers::bpf_xdp_load_bytes, programs::XdpContext};
use spectrum_common::address::Address;
use spectrum_ebpf::{
    answer::{MAX_TCP_HEADER_LENGTH, TCP_HEADER_LENGTH},
    packet::Bytes,
    parse::{Packet, flag},
};

/// An IP header, of which the helpers read the version and the addresses.
#[repr(C, align(8))]
pub(crate) struct IpHeader {
    bytes: [u32; 10],
    length: u32,
}

impl IpHeader {
    pub(crate) const IPV4_LENGTH: u32 = 20;
    pub(crate) const IPV6_LENGTH: u32 = 40;

    #[inline(always)]
    pub(crate) fn of(source: &Address, destination: &Address) -> Self {
        let [s0, s1, s2, s3] = source.words_be();
        let [d0, d1, d2, d3] = destination.words_be();
        if source.is_ipv4() {
            let version = 0x4500_0000_u32.to_be();
            Self {
                bytes: [version, 0, 0, s3, d3, 0, 0, 0, 0, 0],
                length: Self::IPV4_LENGTH,
            }
        } else {
            let version = 0x6000_0000_u32.to_be();
            Self {
                bytes: [version, 0, s0, s1, s2, s3, d0, d1, d2, d3],
                length: Self::IPV6_LENGTH,
            }
        }
    }

    /// Bytes of the header.
    #[inline(always)]
    pub(crate) const fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut c_void {
        self.bytes.as_mut_ptr().cast()
    }
}

/// A TCP header in room for some bytes; those beyond its length are zero.
///
/// It is made in its place and filled there: the compiler would otherwise copy it about.
#[repr(C)]
pub(crate) struct TcpHeader<const WORDS: usize> {
    /// The bytes, as words, which are zeroed faster.
    words: [u64; WORDS],
    /// As long as the header says.
    length: u32,
}

/// One without options.
pub(crate) type FixedHeader = TcpHeader<3>;

/// One with all the options that there can be. The room is a power of two, for offsets to be masked.
pub(crate) type WholeHeader = TcpHeader<8>;

#[expect(clippy::cast_possible_truncation, reason = "20 and 60")]
const LENGTHS: (u32, u32) = (TCP_HEADER_LENGTH as u32, MAX_TCP_HEADER_LENGTH as u32);

impl<const WORDS: usize> TcpHeader<WORDS> {
    const ROOM: usize = WORDS * size_of::<u64>();

    /// The compiler does not know that it is zeros that are written: it would call memset, which goes
    /// byte by byte.
    #[inline(always)]
    pub(crate) fn zeroed() -> Self {
        Self {
            words: [black_box(0); WORDS],
            length: LENGTHS.0,
        }
    }

    #[inline(always)]
    fn load_bytes(&mut self, ctx: &XdpContext, packet: &Packet, length: u32) -> Option<()> {
        // SAFETY: `ctx` is the context of the running program, and there is room for `length` bytes.
        let loaded = unsafe {
            bpf_xdp_load_bytes(
                ctx.ctx,
                packet.transport_offset.into(),
                self.words.as_mut_ptr().cast(),
                length,
            )
        };
        (loaded == 0).then_some(())
    }

    /// Bytes of the header.
    #[inline(always)]
    pub(crate) const fn length(&self) -> u32 {
        self.length
    }

    /// The same, from 1 to [`Self::ROOM`] for the verifier to see: hidden from the compiler and masked
    /// right where it is needed, because older verifiers forget what they knew of a number that lay on
    /// the stack meanwhile.
    #[inline(always)]
    pub(crate) fn masked_length(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it is 64")]
        let mask = Self::ROOM as u32 - 1;
        (black_box(self.length - 1) & mask) + 1
    }

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut tcphdr {
        self.words.as_mut_ptr().cast()
    }
}

impl FixedHeader {
    /// Becomes that of a SYN from and to the packet's ports.
    #[inline(always)]
    pub(crate) fn set_syn(&mut self, packet: &Packet) {
        const FIVE_WORDS: u32 = 5 << 28;
        let ports = u32::from(packet.source_port) << 16 | u32::from(packet.destination_port);
        let length_and_flags = FIVE_WORDS | u32::from(flag::SYN) << 16;
        self.words = [
            (u64::from(ports) << 32).to_be(),
            u64::from(length_and_flags).to_be(),
            0,
        ];
    }
}

impl WholeHeader {
    /// Reads the packet's own, options included. `None` if it cannot be read.
    #[inline(always)]
    pub(crate) fn load(&mut self, ctx: &XdpContext, packet: &Packet) -> Option<()> {
        self.load_bytes(ctx, packet, LENGTHS.0)?;
        let [offset] = self.read(12)?;
        self.length = u32::from(offset >> 4) * 4;
        // SAFETY: its own field. Volatile, or the compiler would compare another number than the one
        // that the verifier has to see compared.
        let length = unsafe { (&raw const self.length).read_volatile() };
        if length < LENGTHS.0 || length > LENGTHS.1 {
            return None;
        }
        self.load_bytes(ctx, packet, length)
    }
}

impl<const WORDS: usize> Bytes for TcpHeader<WORDS> {
    #[inline(always)]
    fn first_length(&self) -> u32 {
        self.length
    }

    /// See [`FrameBytes`](super::frame::FrameBytes): the length is a number that the verifier does
    /// not know, and below 64.
    #[inline(always)]
    fn position(&self, offset: usize) -> usize {
        let zero = (self.length >> 6) as usize;
        (offset + zero) & (Self::ROOM - 1)
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > Self::ROOM - N {
            return None;
        }
        let start = self.words.as_ptr().cast::<u8>();
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: the bytes from `offset` on are there, as just checked. Volatile, or they would be
            // read at once: on the stack, the verifier wants what is longer than a byte to be aligned.
            *byte = unsafe { start.add(offset + index).read_volatile() };
        }
        Some(bytes)
    }
}
