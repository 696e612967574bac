//! UDP flows that go past the proxy: where one is kept, and what changes in its datagrams.
//!
//! The proxy's socket at the origin's side and the kernel's routing table say where to; here is what a
//! datagram looks like when it leaves: other addresses and ports, one hop less, and checksums that say
//! so. They are not computed again, only what has changed is taken out and put in (RFC 1624).

use spectrum_common::{
    address::Address,
    forward::{Forward, ForwardCounters, ForwardLine, LINES, RENEWAL_NS},
};

use crate::{
    checksum::fold,
    limits::mix,
    parse::{Fragment, Kind, Packet, protocol},
};

/// Where the IP header begins, and the lengths of the headers, in frames that are carried.
pub const NETWORK: u16 = 14;
pub const IPV4_LENGTH: u16 = 20;
pub const IPV6_LENGTH: u16 = 40;
pub const UDP_LENGTH: u16 = 8;

/// The bits of a [`ForwardLine`]'s entry that hold an index.
const INDEX_MASK: u64 = 0xffff_ffff;

/// Where a flow is kept. Whoever does not know the seed cannot aim at the line of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    hash: u64,
}

impl Place {
    /// `seed` is [`Settings::hash_seed`](spectrum_common::settings::Settings::hash_seed).
    #[inline(always)]
    pub const fn new(
        (source, source_port): (&Address, u16),
        (destination, destination_port): (&Address, u16),
        seed: u32,
    ) -> Self {
        let ports = (source_port as u64) << 16 | destination_port as u64;
        let [s_high, s_low] = source.halves();
        let [d_high, d_low] = destination.halves();
        let mut hash = mix(ports | (seed as u64) << 32);
        if !source.is_ipv4() {
            hash = mix(hash ^ s_high);
            hash = mix(hash ^ d_high);
        }
        hash = mix(hash ^ s_low);
        Self {
            hash: mix(hash ^ d_low),
        }
    }

    #[inline(always)]
    pub const fn of(packet: &Packet, seed: u32) -> Self {
        Self::new(
            (&packet.source, packet.source_port),
            (&packet.destination, packet.destination_port),
            seed,
        )
    }

    /// The element of the map `forward_lines`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn line_index(&self) -> u32 {
        self.hash as u32 & (LINES - 1)
    }

    /// What leads from the line to the flow at `index`.
    #[inline(always)]
    pub const fn entry(&self, index: u32) -> u64 {
        self.hash & !INDEX_MASK | (index as u64 + 1)
    }

    /// The index of the flow in the map `forwards`, if its line leads there. One flow in four billion
    /// leads to another, which [`is_of`] tells.
    #[inline(always)]
    pub fn find(&self, line: &ForwardLine) -> Option<u32> {
        let mut entries = line.entries.iter();
        let is_it = |entry: &&u64| (**entry ^ self.hash) & !INDEX_MASK == 0 && **entry != 0;
        let entry = entries.find(is_it)?;
        Some((*entry & INDEX_MASK) as u32 - 1)
    }
}

/// Does the packet belong to the flow?
#[inline(always)]
pub fn is_of(packet: &Packet, forward: &Forward) -> bool {
    packet.source_port == forward.source_port
        && packet.destination_port == forward.destination_port
        && packet.source == forward.source
        && packet.destination == forward.destination
}

/// May a datagram that comes now, by the interface with this index, be carried?
///
/// # Errors
/// It is left to the proxy; on [`Left::Renewal`] the caller notes when.
#[inline(always)]
pub const fn admit(forward: &Forward, interface: u32, now_ns: u64) -> Result<(), Left> {
    if forward.interface != 0 && forward.interface != interface {
        return Err(Left::Astray);
    }
    if now_ns.saturating_sub(forward.renewed_ns) >= RENEWAL_NS {
        return Err(Left::Renewal);
    }
    Ok(())
}

/// Can a packet be carried at all: a whole datagram behind headers of the common shape, all of it in
/// the frame's first buffer, which holds `first_length` bytes?
#[inline(always)]
pub fn is_plain(packet: &Packet, first_length: u32) -> bool {
    let network_length = if packet.source.is_ipv4() {
        IPV4_LENGTH
    } else {
        IPV6_LENGTH
    };
    packet.kind == Kind::Addressed
        && packet.protocol == protocol::UDP
        && packet.fragment == Fragment::Whole
        && packet.has_ports
        && packet.defect.is_none()
        && packet.network_offset == NETWORK
        && packet.transport_offset == NETWORK + network_length
        && u32::from(NETWORK) + u32::from(packet.packet_length) <= first_length
}

/// Why a datagram of a known flow is left to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    OddShape,
    Unfinished,
    Astray,
    Renewal,
    Expired,
    NoRoute,
    TooBig,
    NoNeighbour,
    NoPort,
}

/// Counts what has become of a datagram.
#[inline(always)]
pub fn count(counters: &mut ForwardCounters, left: Option<Left>) {
    match left {
        None => counters.carried += 1,
        Some(Left::OddShape) => counters.odd_shape += 1,
        Some(Left::Unfinished) => counters.unfinished += 1,
        Some(Left::Astray) => counters.astray += 1,
        Some(Left::Renewal) => counters.renewal += 1,
        Some(Left::Expired) => counters.expired += 1,
        Some(Left::NoRoute) => counters.no_route += 1,
        Some(Left::TooBig) => counters.too_big += 1,
        Some(Left::NoNeighbour) => counters.no_neighbour += 1,
        Some(Left::NoPort) => counters.no_port += 1,
    }
}

/// What changes in the headers besides addresses and ports. Checksums are as they lie in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// TTL or hop limit.
    pub hops: u8,
    /// Of the IPv4 header; 0 over IPv6.
    pub network_checksum_be: u16,
    /// Of UDP; 0 if there is none.
    pub checksum_be: u16,
}

impl Headers {
    /// How they are when `packet` leaves as a datagram of `forward`, whose addresses are of the same
    /// family.
    ///
    /// # Errors
    /// It cannot.
    #[inline(always)]
    pub fn translate(self, packet: &Packet, forward: &Forward) -> Result<Self, Left> {
        if self.hops <= 1 {
            return Err(Left::Expired);
        }
        let is_ipv4 = packet.source.is_ipv4();
        if is_unfinished(packet, self.checksum_be) || (!is_ipv4 && self.checksum_be == 0) {
            return Err(Left::Unfinished);
        }
        let hops = self.hops - 1;
        let addresses = Change::NONE
            .address(&packet.source, &forward.new_source)
            .address(&packet.destination, &forward.new_destination);
        let network_checksum_be = if is_ipv4 {
            addresses
                .word(
                    word([self.hops, packet.protocol]),
                    word([hops, packet.protocol]),
                )
                .apply(self.network_checksum_be)
        } else {
            self.network_checksum_be
        };
        let checksum_be = addresses
            .word(packet.source_port.to_be(), forward.new_source_port.to_be())
            .word(
                packet.destination_port.to_be(),
                forward.new_destination_port.to_be(),
            )
            .apply(self.checksum_be);
        Ok(Self {
            hops,
            network_checksum_be,
            checksum_be: match (self.checksum_be, checksum_be) {
                // None stays none, and one that happens to be 0 is its other zero (RFC 768).
                (0, _) => 0,
                (_, 0) => u16::MAX,
                (_, checksum_be) => checksum_be,
            },
        })
    }
}

/// Is this what is written in place of a checksum that a network card is to compute: the sum of the
/// pseudo header alone? A finished checksum looks so by chance in one datagram of 65,536.
#[inline(always)]
const fn is_unfinished(packet: &Packet, checksum_be: u16) -> bool {
    let length = packet.datagram_length as u32 + UDP_LENGTH as u32;
    let rest = (packet.protocol as u32 + length).to_be();
    let sum = rest as u64 + address_sum(&packet.source) + address_sum(&packet.destination);
    checksum_be == fold(sum)
}

/// What a checksum has to be told: the words that are gone, and those that came in their place.
#[derive(Clone, Copy)]
struct Change(u64);

impl Change {
    const NONE: Self = Self(0);

    #[inline(always)]
    const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    #[inline(always)]
    const fn address(self, old: &Address, new: &Address) -> Self {
        // The other zero of this arithmetic is 2^32 - 1, so that a difference may be put so.
        const ALL: u64 = 4 * 0xffff_ffff;
        Self(self.0 + (ALL - address_sum(old)) + address_sum(new))
    }

    /// Equation 3 of RFC 1624.
    #[inline(always)]
    const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + !checksum as u64)
    }
}

/// Of words in the order of bytes in which they lie in the packet. What says that an IPv4 address is
/// one is zero in this arithmetic.
#[inline(always)]
const fn address_sum(address: &Address) -> u64 {
    let [a, b, c, d] = address.words_be();
    a as u64 + b as u64 + c as u64 + d as u64
}

#[inline(always)]
const fn word(bytes: [u8; 2]) -> u16 {
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod forward_test;
