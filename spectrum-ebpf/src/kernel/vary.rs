//! What benchmarks change in a packet, of which a run repeats one: its source, because every look-up
//! would be in the processor's caches; and an answer, which has taken the place of the packet.

use aya_ebpf::{helpers::bpf_get_prandom_u32, programs::XdpContext};

const ETHERNET: usize = 14;
const IPV4_VERSION: u8 = 0x45;
/// Where the low half of an IPv4 identification says how many bits of the source vary.
const IDENTIFICATION: usize = ETHERNET + 5;
const IPV4_SOURCE: usize = ETHERNET + 12;
/// The bits of an IPv6 source between its /16 and its /64.
const IPV6_NETWORK: usize = ETHERNET + 8 + 2;

/// Varies the source of an untagged packet: over IPv4 as many of its bits as the identification
/// says (0: nearly all), over IPv6 the network.
#[inline(always)]
pub(crate) fn source(ctx: &XdpContext) {
    let start = ctx.data();
    if start + IPV6_NETWORK + 6 > ctx.data_end() {
        return;
    }
    // SAFETY: the frame has these bytes, as just checked, and belongs to this program.
    unsafe {
        let random = bpf_get_prandom_u32();
        if *((start + ETHERNET) as *const u8) == IPV4_VERSION {
            let bits = u32::from(*((start + IDENTIFICATION) as *const u8)) & 31;
            let source = (start + IPV4_SOURCE) as *mut u32;
            let varied = if bits == 0 {
                unicast(random)
            } else {
                let mask = (1_u32 << bits) - 1;
                u32::from_be(source.read_unaligned()) & !mask | random & mask
            };
            source.write_unaligned(varied.to_be());
        } else {
            let network = (start + IPV6_NETWORK) as *mut u32;
            network.write_unaligned(random);
            #[expect(clippy::cast_possible_truncation, reason = "16 random bits of 32")]
            let low = bpf_get_prandom_u32() as u16;
            network.add(1).cast::<u16>().write_unaligned(low);
        }
    }
}

/// Makes the answer to a SYN (untagged, IPv4 without options) the SYN again, with the options that the
/// answer has.
#[inline(always)]
pub(crate) fn answer(ctx: &XdpContext) {
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    const TCP: usize = IPV4_SOURCE + 8;
    let start = ctx.data();
    if start + TCP + 14 > ctx.data_end() {
        return;
    }
    // SAFETY: as above.
    unsafe {
        let flags = (start + TCP + 13) as *mut u8;
        if *flags & SYN_ACK != SYN_ACK {
            return;
        }
        *flags = SYN;
        let addresses = (start + IPV4_SOURCE) as *mut u32;
        let (one, other) = (
            addresses.read_unaligned(),
            addresses.add(1).read_unaligned(),
        );
        addresses.write_unaligned(other);
        addresses.add(1).write_unaligned(one);
        let ports = (start + TCP) as *mut u16;
        let (one, other) = (ports.read_unaligned(), ports.add(1).read_unaligned());
        ports.write_unaligned(other);
        ports.add(1).write_unaligned(one);
    }
}

/// No address that would be dropped for what it is.
const fn unicast(bits: u32) -> u32 {
    match bits >> 24 {
        0 | 127 => bits ^ 0x5500_0000,
        255 => bits ^ 0xaa00_0000,
        224.. => bits ^ 0x8000_0000,
        _ => bits,
    }
}
