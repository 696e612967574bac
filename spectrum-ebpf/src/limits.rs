//! Rates per source: where a source is kept, and what it is admitted.

use spectrum_common::{
    address::Address,
    app::{App, RateLimit, TICK_SHIFT, mode},
    source::{SETS, Source, SourceSet, WAYS},
};

use crate::parse::Packet;

/// Who a packet is charged to: a source (for IPv6 its /64) at an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    address: Address,
    slot: u32,
    hash: u64,
}

impl Account {
    /// `seed` is [`Settings::hash_seed`](spectrum_common::settings::Settings::hash_seed).
    #[inline(always)]
    pub const fn new(source: &Address, slot: u32, seed: u32) -> Self {
        let [high_be, _] = source.halves_be;
        let address = if source.is_ipv4() {
            *source
        } else {
            Address::from_ipv6_be([high_be, 0])
        };
        let salt = (seed as u64) << 32 | slot as u64;
        Self {
            address,
            slot,
            hash: mix(network(source) ^ mix(salt)),
        }
    }

    /// The element of the map `sources` that this account can be in.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn set_index(&self) -> u32 {
        self.hash as u32 & (SETS - 1)
    }

    /// What tells the accounts of a set apart at first sight; never 0, which means "unused".
    #[inline(always)]
    const fn tag(&self) -> u32 {
        (self.hash >> 32) as u32 | 1
    }

    /// What a set knows of this account, for those who only look.
    pub fn find<'set>(&self, set: &'set SourceSet) -> Option<&'set Source> {
        let mut used = set.sources.iter().zip(set.tags);
        let found = used.find(|&(source, tag)| tag == self.tag() && self.owns(source));
        found.map(|(source, _)| source)
    }

    #[inline(always)]
    fn owns(&self, source: &Source) -> bool {
        source.address == self.address && source.app == self.slot
    }
}

/// What counts as one source: an IPv4 address, or the /64 of an IPv6 address, as bits that no two
/// of them share.
#[inline(always)]
pub(crate) const fn network(source: &Address) -> u64 {
    let [high, low] = source.halves_be;
    if source.is_ipv4() { low } else { high }
}

/// A one-to-one mix of 64 bits in which each bit of the input moves half of the output's
/// (the finalizer of MurmurHash3).
#[inline(always)]
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// Which limits a packet is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    pub over_packet_rate: bool,
    pub over_syn_rate: bool,
}

/// Charges a packet to an account, which takes the place of another one if it has none.
///
/// `set` is the one at [`Account::set_index`]; `jiffies` is the kernel's clock, in ticks.
#[inline(always)]
pub fn admit(
    set: &mut SourceSet,
    account: &Account,
    packet: &Packet,
    app: &App,
    jiffies: u64,
) -> Admission {
    let now = jiffies << TICK_SHIFT;
    let source = count(set, account, packet.length, jiffies);
    let over_packet_rate = !take(&mut source.packet_due, &app.packet_rate, now);
    // What is dropped here opens no connection.
    let is_dropped = over_packet_rate && app.packet_rate.mode == mode::ENFORCE;
    let over_syn_rate =
        packet.opens_tcp() && !is_dropped && !take(&mut source.syn_due, &app.syn_rate, now);
    if over_packet_rate || over_syn_rate {
        source.limited += 1;
    }
    Admission {
        over_packet_rate,
        over_syn_rate,
    }
}

/// Counts a packet at its account, and returns it. Looks at the tags first, so that a hit reads a
/// single source.
#[expect(clippy::indexing_slicing, reason = "a way is below WAYS")]
#[inline(always)]
fn count<'set>(
    set: &'set mut SourceSet,
    account: &Account,
    length: u32,
    jiffies: u64,
) -> &'set mut Source {
    let tag = account.tag();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ages are compared modulo 2^32"
    )]
    let now = jiffies as u32;
    let mut least = 0;
    let mut least_left = i32::MAX;
    for way in 0..WAYS {
        if set.tags[way] == tag && account.owns(&set.sources[way]) {
            let source = &mut set.sources[way];
            source.packets += 1;
            source.bytes += u64::from(length);
            set.kept_until[way] = now.wrapping_add(ticks_kept(source.packets));
            return source;
        }
        let left = match set.tags[way] {
            0 => i32::MIN,
            _ => set.kept_until[way].wrapping_sub(now).cast_signed(),
        };
        if left < least_left {
            least = way;
            least_left = left;
        }
    }
    set.tags[least] = tag;
    set.kept_until[least] = now.wrapping_add(ticks_kept(1));
    set.sources[least] = Source {
        address: account.address,
        app: account.slot,
        reserved: 0,
        packets: 1,
        bytes: length.into(),
        limited: 0,
        // Zero would do as well, but so long a run of zeros becomes a slow call of memset.
        packet_due: jiffies << TICK_SHIFT,
        syn_due: jiffies << TICK_SHIFT,
    };
    &mut set.sources[least]
}

/// How long a source has precedence over one that was seen just now, in ticks: a flood of sources
/// that send one packet each must not push out those that send many.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
const fn ticks_kept(packets: u64) -> u32 {
    const MOST: u64 = 255;
    if packets < MOST {
        packets as u32
    } else {
        MOST as u32
    }
}

/// The generic cell rate algorithm (ITU-T I.371): a source may be ahead of its rate by the
/// tolerance. Returns whether the packet is admitted; one that is not costs nothing.
#[inline(always)]
fn take(due: &mut u64, limit: &RateLimit, now: u64) -> bool {
    limit.mode == mode::OFF || pass(due, limit, now)
}

/// The same whatever the limit's mode; `now` is in scaled ticks.
#[inline(always)]
pub fn pass(due: &mut u64, limit: &RateLimit, now: u64) -> bool {
    let start = (*due).max(now);
    if start - now > limit.tolerance {
        return false;
    }
    *due = start + limit.interval;
    true
}

/// The limit of `per_second` packets with up to `burst` at once, for a clock of
/// `ticks_per_second`. Both are at least 1.
///
/// A clock that moves in ticks hides how packets are spread within one: a tolerance below a tick
/// would cut a steady rate, so there is none.
pub const fn rate_limit(
    mode: u32,
    per_second: u32,
    burst: u32,
    ticks_per_second: u32,
) -> RateLimit {
    let tick = 1 << TICK_SHIFT;
    let interval = ((ticks_per_second as u64) << TICK_SHIFT) / per_second as u64;
    let tolerance = interval * (burst as u64 - 1);
    RateLimit {
        interval,
        tolerance: if tolerance < tick { tick } else { tolerance },
        mode,
        per_second,
    }
}

#[cfg(test)]
mod limits_test;
