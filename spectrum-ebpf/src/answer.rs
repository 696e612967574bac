//! The answer to a SYN in place of the host: a SYN-ACK whose sequence number is a cookie, so that
//! nothing need be remembered (RFC 4987 §3.6), and whose timestamp holds the options, as Linux packs
//! them.

use core::hint::black_box;

use spectrum_common::{
    address::Address,
    handshake::{Handshake, MARK_SECONDS, ability},
};

use crate::{
    checksum::fold,
    packet::Bytes,
    parse::{Packet, flag},
};

pub const TCP_HEADER_LENGTH: usize = 20;
pub const MAX_TCP_HEADER_LENGTH: usize = 60;

/// The longest answer: with all options that there can be.
pub const MAX_ANSWER_LENGTH: usize = 40;

pub const IPV4_HEADER_LENGTH: usize = 20;
pub const IPV6_HEADER_LENGTH: usize = 40;

/// Numbers of TCP options (IANA).
mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MAX_SEGMENT_SIZE: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMPS: u8 = 8;
}

/// Options of a SYN that are looked at, padding included. Stacks send about seven.
const MAX_OPTIONS: usize = 24;

/// What the kernel's timestamp of a cookie holds in its lowest bits (`cookie_init_timestamp`).
mod packed {
    pub(super) const NO_WINDOW_SCALE: u32 = 0xf;
    pub(super) const SACK: u32 = 1 << 4;
    pub(super) const ECN: u32 = 1 << 5;
    pub(super) const MASK: u32 = 0x3f;
}

/// The largest window scale (RFC 7323 §2.3).
const MAX_WINDOW_SCALE: u32 = 14;

/// May SYNs be answered at all? Only while the kernel takes the answers to the answers.
#[inline(always)]
pub const fn can_answer(handshake: &Handshake, jiffies: u64, ticks_per_second: u32) -> bool {
    let lasts = MARK_SECONDS as u64 * ticks_per_second as u64;
    let is_marked = handshake.marked != 0 && jiffies.saturating_sub(handshake.marked) < lasts;
    is_marked && handshake.abilities & ability::ANSWER != 0
}

/// What a SYN asks for.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub sequence: u32,
    /// [`ability`] bits.
    pub abilities: u32,
    pub window_scale: u32,
    pub timestamp: u32,
}

impl Request {
    /// Reads the TCP header of `packet`, which is `length` bytes long with its options.
    #[inline(always)]
    pub fn read(packet: &Packet, header: &(impl Bytes + ?Sized), length: usize) -> Option<Self> {
        // What the options change begins as a number that the verifier does not know, or it would
        // follow each way through them apart.
        let zero = header.position(0);
        #[expect(clippy::cast_possible_truncation, reason = "zero")]
        let mut request = Self {
            sequence: u32::from_be_bytes(header.read(4)?),
            abilities: zero as u32,
            window_scale: zero as u32,
            timestamp: zero as u32,
        };
        let mut at = TCP_HEADER_LENGTH + zero;
        for _ in 0..MAX_OPTIONS {
            if at >= length {
                break;
            }
            at = match request.read_option(header, at, length) {
                Some(next) => next,
                None => break,
            };
        }
        // Asked for by the header's flags.
        if packet.tcp_flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR {
            request.abilities |= ability::ECN;
        }
        Some(request)
    }

    /// Reads the option at `at`, and returns where the next one begins; `None` if there is none.
    #[inline(always)]
    fn read_option(
        &mut self,
        header: &(impl Bytes + ?Sized),
        at: usize,
        length: usize,
    ) -> Option<usize> {
        let [kind] = header.read(at)?;
        match kind {
            option::END => return None,
            option::NO_OPERATION => return Some(header.position(at + 1)),
            _ => {}
        }
        let [size] = header.read(at + 1)?;
        let next = header.position(at + usize::from(size));
        if size < 2 || next > length {
            return None;
        }
        match (kind, size) {
            (option::WINDOW_SCALE, 3) => {
                let [scale] = header.read(at + 2)?;
                self.window_scale = u32::from(scale).min(MAX_WINDOW_SCALE);
                self.abilities |= ability::WINDOW_SCALE;
            }
            (option::SACK_PERMITTED, 2) => self.abilities |= ability::SACK,
            (option::TIMESTAMPS, 10) => {
                self.timestamp = u32::from_be_bytes(header.read(at + 2)?);
                self.abilities |= ability::TIMESTAMPS;
            }
            (_, _) => {}
        }
        Some(next)
    }
}

/// A cookie, and what goes with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cookie {
    /// Milliseconds of the kernel's monotonic clock, whose low bits its timestamps tell.
    pub milliseconds: u64,
    pub sequence: u32,
    /// The largest segment that it stands for: what the client said, rounded down.
    pub segment: u32,
}

/// All that an answer is made of, besides the packet. Without padding, and aligned: so the verifier
/// wants what lies on the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply {
    pub request: Request,
    pub cookie: Cookie,
}

/// Writes the TCP header that answers `packet`, a SYN, and returns its length: 24, 36 or 40; the bytes
/// beyond it are zero.
///
/// Without timestamps there is no place for any option but the segment size; the kernel's own
/// cookies are no different.
#[inline(always)]
pub fn write_segment(
    bytes: &mut [u8; MAX_ANSWER_LENGTH],
    packet: &Packet,
    reply: &Reply,
    handshake: &Handshake,
) -> u8 {
    let Reply { request, cookie } = reply;
    let mut agreed = request.abilities & handshake.abilities;
    if agreed & ability::TIMESTAMPS == 0 {
        agreed = 0;
    }
    let has = |ability: u32| agreed & ability != 0;
    let length = match (has(ability::TIMESTAMPS), has(ability::WINDOW_SCALE)) {
        (false, _) => 24,
        (true, false) => 36,
        (true, true) => 40,
    };
    let mut flags = flag::SYN | flag::ACK;
    if has(ability::ECN) {
        flags |= flag::ECE;
    }
    let segment_size = if packet.source.is_ipv4() {
        handshake.segment_ipv4
    } else {
        handshake.segment_ipv6
    };
    let [_, _, size_high, size_low] = segment_size.to_be_bytes();

    clear(bytes);
    put(bytes, 0, packet.destination_port.to_be_bytes());
    put(bytes, 2, packet.source_port.to_be_bytes());
    put(bytes, 4, cookie.sequence.to_be_bytes());
    put(bytes, 8, request.sequence.wrapping_add(1).to_be_bytes());
    put(bytes, 12, [length << 2, flags]);
    put(bytes, 14, window(handshake, cookie.segment).to_be_bytes());
    put(
        bytes,
        20,
        [option::MAX_SEGMENT_SIZE, 4, size_high, size_low],
    );
    if has(ability::TIMESTAMPS) {
        let before = if has(ability::SACK) {
            [option::SACK_PERMITTED, 2]
        } else {
            [option::NO_OPERATION; 2]
        };
        let value = timestamp(cookie.milliseconds, pack(request, agreed));
        put(bytes, 24, before);
        put(bytes, 26, [option::TIMESTAMPS, 10]);
        put(bytes, 28, value.to_be_bytes());
        put(bytes, 32, request.timestamp.to_be_bytes());
    }
    if has(ability::WINDOW_SCALE) {
        let [.., scale] = handshake.window_scale.to_be_bytes();
        put(
            bytes,
            36,
            [option::NO_OPERATION, option::WINDOW_SCALE, 3, scale],
        );
    }
    let checksum = !fold(pseudo_header(packet, length) + sum(bytes));
    put(bytes, 16, checksum.to_ne_bytes());
    length
}

/// What is advertised, as the kernel will reckon it from the cookie (`tcp_select_initial_window`).
#[inline(always)]
fn window(handshake: &Handshake, segment: u32) -> u16 {
    let whole = if segment != 0 && handshake.window > segment {
        handshake.window - handshake.window % segment
    } else {
        handshake.window
    };
    u16::try_from(whole).unwrap_or(u16::MAX)
}

/// The agreed options as a timestamp's lowest bits.
#[inline(always)]
const fn pack(request: &Request, agreed: u32) -> u32 {
    let mut bits = packed::NO_WINDOW_SCALE;
    if agreed & ability::WINDOW_SCALE != 0 {
        bits = request.window_scale;
    }
    if agreed & ability::SACK != 0 {
        bits |= packed::SACK;
    }
    if agreed & ability::ECN != 0 {
        bits |= packed::ECN;
    }
    bits
}

/// The latest timestamp with these lowest bits that is not in the future.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a timestamp has 32 bits")]
const fn timestamp(now: u64, bits: u32) -> u32 {
    let now = now as u32;
    let value = now & !packed::MASK | bits;
    if bits > now & packed::MASK {
        value.wrapping_sub(packed::MASK + 1)
    } else {
        value
    }
}

/// Writes the IPv4 header of an answer whose TCP header has `length` bytes.
#[inline(always)]
pub fn write_ipv4_header(
    bytes: &mut [u8; IPV4_HEADER_LENGTH],
    packet: &Packet,
    handshake: &Handshake,
    length: u8,
) {
    const VERSION_AND_LENGTH: u8 = 0x45;
    const DO_NOT_FRAGMENT: u8 = 0x40;
    let [.., source] = packet.destination.words_be();
    let [.., destination] = packet.source.words_be();
    let [.., hops] = handshake.hop_limit.to_be_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "20")]
    let total = IPV4_HEADER_LENGTH as u8 + length;
    clear(bytes);
    put(bytes, 0, [VERSION_AND_LENGTH, 0, 0, total]);
    put(bytes, 6, [DO_NOT_FRAGMENT, 0, hops, packet.protocol]);
    put(bytes, 12, source.to_ne_bytes());
    put(bytes, 16, destination.to_ne_bytes());
    let checksum = !fold(sum(bytes));
    put(bytes, 10, checksum.to_ne_bytes());
}

/// Writes the IPv6 header of an answer whose TCP header has `length` bytes.
#[inline(always)]
pub fn write_ipv6_header(
    bytes: &mut [u8; IPV6_HEADER_LENGTH],
    packet: &Packet,
    handshake: &Handshake,
    length: u8,
) {
    const VERSION: u8 = 0x60;
    let [.., hops] = handshake.hop_limit.to_be_bytes();
    clear(bytes);
    put(bytes, 0, [VERSION, 0, 0, 0]);
    put(bytes, 4, [0, length, packet.protocol, hops]);
    put_address(bytes, 8, &packet.destination);
    put_address(bytes, 24, &packet.source);
}

/// Zeros in a number of bytes that is a multiple of 4, which the compiler does not know to be zeros:
/// in the kernel it would call a memset that goes byte by byte.
#[inline(always)]
fn clear(bytes: &mut [u8]) {
    let (words, _) = bytes.as_chunks_mut();
    for word in words {
        *word = black_box(0_u32).to_ne_bytes();
    }
}

#[inline(always)]
fn put_address(bytes: &mut [u8; IPV6_HEADER_LENGTH], at: usize, address: &Address) {
    let [a, b, c, d] = address.words_be();
    put(bytes, at, a.to_ne_bytes());
    put(bytes, at + 4, b.to_ne_bytes());
    put(bytes, at + 8, c.to_ne_bytes());
    put(bytes, at + 12, d.to_ne_bytes());
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    let place = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    debug_assert!(place.is_some());
    if let Some(place) = place {
        *place = value;
    }
}

/// The sum over the pseudo header (RFC 9293 §3.1), in which the order of the addresses is the same.
/// What says that a mapped address is one is 0xffff, the other zero of this arithmetic.
#[inline(always)]
const fn pseudo_header(packet: &Packet, length: u8) -> u64 {
    let rest = (packet.protocol as u32 + length as u32).to_be();
    rest as u64 + address_sum(&packet.source) + address_sum(&packet.destination)
}

#[inline(always)]
const fn address_sum(address: &Address) -> u64 {
    let [a, b, c, d] = address.words_be();
    a as u64 + b as u64 + c as u64 + d as u64
}

/// The sum of the words in `bytes`, a whole number of 32 bits: it does not matter how long words are,
/// nor in which order their bytes (RFC 1071 §2).
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks();
    words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum()
}

#[cfg(test)]
mod answer_test;
