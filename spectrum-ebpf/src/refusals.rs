//! Sources that were refused a moment ago: where one is kept, and for which packets it holds.

use spectrum_common::refusal::{MAX_AGE_SECONDS, REFUSALS, Refusal};

use crate::{
    flows::Now,
    parse::{Fragment, Packet},
};

/// Does whatever refuses the source of `packet` look at nothing but addresses, protocol and port? A
/// packet that other rules may object to before is not remembered, nor refused unseen.
#[inline(always)]
pub fn is_plain(packet: &Packet) -> bool {
    packet.defect.is_none() && packet.fragment == Fragment::Whole && packet.has_ports
}

/// The element of the map `refusals` that the packet's source can be in. Whoever aims at an element
/// gains nothing: what is not found there is judged by the rules.
#[inline(always)]
pub const fn index(packet: &Packet) -> u32 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let [high, low] = packet.source.halves_be;
    let bits = (high ^ low).wrapping_mul(SPREAD) ^ service(packet) as u64;
    let high = (bits.wrapping_mul(SPREAD) >> 32) as u32;
    high & (REFUSALS - 1)
}

#[inline(always)]
const fn service(packet: &Packet) -> u32 {
    (packet.protocol as u32) << 16 | packet.destination_port as u32
}

/// The slot of the app that has refused the packet's source a moment ago.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
pub fn find(refusal: &Refusal, packet: &Packet, now: Now, ticks_per_second: u32) -> Option<u32> {
    let is_it = refusal.source == packet.source
        && refusal.destination == packet.destination
        && refusal.service == service(packet);
    let age = (now.jiffies as u32).wrapping_sub(refusal.jiffies);
    let is_good = refusal.generation == now.generation && age < MAX_AGE_SECONDS * ticks_per_second;
    (is_it && is_good).then_some(refusal.slot)
}

/// Notes that the app at `slot` has refused the packet's source.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
pub const fn note(refusal: &mut Refusal, packet: &Packet, slot: u32, now: Now) {
    *refusal = Refusal {
        source: packet.source,
        destination: packet.destination,
        service: service(packet),
        slot,
        generation: now.generation,
        jiffies: now.jiffies as u32,
    };
}

#[cfg(test)]
mod refusals_test;
