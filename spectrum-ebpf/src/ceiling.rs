//! Ceilings: what an app gets from all sources together, and who gets it.
//!
//! A bound is a single generic cell rate (ITU-T I.371) for everybody. Newcomers are admitted as
//! long as the app is ahead of its rate by less than half of the tolerance, and sources that have
//! proved to be real up to the whole: newcomers, however many, cannot use up what the others need,
//! and get all that the others leave.

use spectrum_common::{
    app::TICK_SHIFT,
    ceiling::{Bound, Ceiling, CeilingShare, UNIT_SHIFT},
};

use crate::parse::{Packet, protocol};

/// A CPU takes at once this part of what newcomers may be ahead.
const BATCHES: u64 = 32;

/// Packets of common size that the smallest tolerance has room for.
const LEAST_PACKETS: u64 = 8;
const COMMON_SIZE: u64 = 1514;

/// When the next packet, byte or flow is due: a word that all CPUs write to.
pub trait Due {
    fn get(&self) -> u64;

    fn set(&self, due: u64);

    /// Adds at once, and returns what was there before.
    fn add(&self, ticks: u64) -> u64;
}

/// The words of a [`CeilingUse`](spectrum_common::ceiling::CeilingUse).
pub struct Dues<D> {
    pub packets: D,
    pub bytes: D,
    pub flows: D,
}

/// Would the packet of a newcomer be above a bound? Asked before anything is charged: in a flood of
/// newcomers, most packets need no more than this.
#[inline(always)]
pub fn is_closed(
    ceiling: &Ceiling,
    packet: &Packet,
    dues: &Dues<impl Due>,
    share: &CeilingShare,
    jiffies: u64,
) -> bool {
    let claim = |bound, units| Claim {
        bound,
        units,
        is_proven: false,
        now: jiffies << TICK_SHIFT,
    };
    let opens = packet.opens_tcp() || packet.protocol == protocol::UDP;
    let bytes = u64::from(packet.length);
    opens && claim(&ceiling.flows, 1).is_hopeless(&dues.flows, share.flows)
        || claim(&ceiling.packets, 1).is_hopeless(&dues.packets, share.packets)
        || claim(&ceiling.bytes, bytes).is_hopeless(&dues.bytes, share.bytes)
}

/// Charges a packet to its app; `false` if it is above a bound.
///
/// `share` belongs to this CPU; `jiffies` is the kernel's clock, in ticks. What one bound refuses
/// costs the bounds after it nothing.
#[inline(always)]
pub fn admits(
    ceiling: &Ceiling,
    packet: &Packet,
    is_proven: bool,
    dues: &Dues<impl Due>,
    share: &mut CeilingShare,
    jiffies: u64,
) -> bool {
    let now = jiffies << TICK_SHIFT;
    let claim = |bound, units| Claim {
        bound,
        units,
        is_proven,
        now,
    };
    // A datagram of a source that is known belongs to a flow that goes on.
    let opens = packet.opens_tcp() || packet.protocol == protocol::UDP && !is_proven;
    if opens && !claim(&ceiling.flows, 1).take(&dues.flows, &mut share.flows) {
        return false;
    }
    let bytes = u64::from(packet.length);
    claim(&ceiling.packets, 1).take(&dues.packets, &mut share.packets)
        && claim(&ceiling.bytes, bytes).take(&dues.bytes, &mut share.bytes)
}

/// What a packet wants of a bound.
struct Claim<'a> {
    bound: &'a Bound,
    units: u64,
    is_proven: bool,
    now: u64,
}

impl Claim<'_> {
    /// Takes it from what this CPU has, or else from what is there for all.
    #[inline(always)]
    fn take(&self, due: &impl Due, share: &mut u64) -> bool {
        if self.bound.interval == 0 {
            return true;
        }
        let cost = self.cost();
        if cost <= *share {
            *share -= cost;
            return true;
        }
        let open = self.open();
        let batch = cost.max(open / BATCHES);
        if self.draw(due, batch, open) {
            *share += batch - cost;
            return true;
        }
        // Nothing in advance: what is left is not for the newcomers who come next.
        self.is_proven && self.draw(due, cost, self.bound.tolerance)
    }

    /// Whether [`Claim::take`] would refuse a newcomer now.
    #[inline(always)]
    fn is_hopeless(&self, due: &impl Due, share: u64) -> bool {
        self.bound.interval != 0 && self.cost() > share && due.get() > self.now + self.open()
    }

    #[inline(always)]
    const fn cost(&self) -> u64 {
        (self.bound.interval * self.units) >> UNIT_SHIFT
    }

    /// How far newcomers may be ahead.
    #[inline(always)]
    const fn open(&self) -> u64 {
        self.bound.tolerance / 2
    }

    /// Takes `cost` from all, if they are ahead by no more than `tolerance`.
    #[inline(always)]
    fn draw(&self, due: &impl Due, cost: u64, tolerance: u64) -> bool {
        let seen = due.get();
        if seen > self.now + tolerance {
            return false;
        }
        if seen < self.now {
            // Another CPU that does the same may have added already, and what it took is then
            // forgotten: once, and only where the app is below its rate.
            due.set(self.now);
        }
        if due.add(cost) <= self.now + tolerance {
            return true;
        }
        due.add(cost.wrapping_neg());
        false
    }
}

/// The bound of `per_second` packets, bytes or flows, of which `common` make up a packet, for a
/// clock of `ticks_per_second`. 0 is no bound.
///
/// A quarter of a second's worth may come at once, or eight packets if that is more.
const fn bound(per_second: u64, common: u64, ticks_per_second: u32) -> Bound {
    let second = (ticks_per_second as u64) << TICK_SHIFT;
    let Some(interval) = (second << UNIT_SHIFT).checked_div(per_second) else {
        return Bound {
            interval: 0,
            tolerance: 0,
            per_second: 0,
        };
    };
    let least = (interval * common * LEAST_PACKETS) >> UNIT_SHIFT;
    let quarter = second / 4;
    Bound {
        interval,
        tolerance: if quarter > least { quarter } else { least },
        per_second,
    }
}

/// The ceiling of an app, from bounds per second of which 0 is none.
pub const fn ceiling(
    mode: u32,
    packets: u64,
    bytes: u64,
    flows: u64,
    ticks_per_second: u32,
) -> Ceiling {
    Ceiling {
        mode,
        reserved: 0,
        packets: bound(packets, 1, ticks_per_second),
        bytes: bound(bytes, COMMON_SIZE, ticks_per_second),
        flows: bound(flows, 1, ticks_per_second),
    }
}

#[cfg(test)]
mod ceiling_test;
