//! Random sources, for benchmarks: a run repeats one packet, whose every look-up would be in the
//! processor's caches.

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

/// No address that would be dropped for what it is.
const fn unicast(bits: u32) -> u32 {
    match bits >> 24 {
        0 | 127 => bits ^ 0x5500_0000,
        255 => bits ^ 0xaa00_0000,
        224.. => bits ^ 0x8000_0000,
        _ => bits,
    }
}
