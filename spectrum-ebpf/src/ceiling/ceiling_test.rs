//! A ceiling that is wrong lets a flood through, or shuts out whom it is there for.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{cell::Cell, vec::Vec};

use proptest::prelude::*;
use spectrum_common::app::mode;

use super::*;
use crate::parse::flag;

impl Due for Cell<u64> {
    fn get(&self) -> u64 {
        Cell::get(self)
    }

    fn set(&self, due: u64) {
        Cell::set(self, due);
    }

    fn add(&self, ticks: u64) -> u64 {
        let before = Cell::get(self);
        Cell::set(self, before.wrapping_add(ticks));
        before
    }
}

const START: u64 = 1 << 32;

/// An app with a ceiling, on a host with some CPUs.
struct App {
    ceiling: Ceiling,
    dues: Dues<Cell<u64>>,
    shares: Vec<CeilingShare>,
    jiffies: u64,
}

impl App {
    fn new(ceiling: Ceiling, cpus: usize) -> Self {
        Self {
            ceiling,
            dues: Dues {
                packets: Cell::new(0),
                bytes: Cell::new(0),
                flows: Cell::new(0),
            },
            shares: std::vec![CeilingShare::default(); cpus],
            jiffies: START,
        }
    }

    fn is_closed(&self, packet: &Packet, cpu: usize) -> bool {
        let share = &self.shares[cpu];
        is_closed(&self.ceiling, packet, &self.dues, share, self.jiffies)
    }

    /// What says that there is no room must be right about it, and the other way around.
    fn admits(&mut self, packet: &Packet, is_proven: bool, cpu: usize) -> bool {
        let is_closed = self.is_closed(packet, cpu);
        let Self {
            ceiling,
            dues,
            shares,
            jiffies,
        } = self;
        let share = &mut shares[cpu];
        let admitted = admits(ceiling, packet, is_proven, dues, share, *jiffies);
        assert!(is_proven || admitted != is_closed);
        admitted
    }

    /// How many of `count` packets are admitted, by CPUs in turn.
    fn admitted(&mut self, packet: &Packet, is_proven: bool, count: u64) -> u64 {
        let cpus = self.shares.len();
        let turns = (0..cpus).cycle().zip(0..count);
        turns
            .filter(|&(cpu, _)| self.admits(packet, is_proven, cpu))
            .count() as u64
    }
}

fn datagram(length: u32) -> Packet {
    Packet {
        length,
        protocol: protocol::UDP,
        ..Packet::default()
    }
}

fn segment(tcp_flags: u8) -> Packet {
    Packet {
        length: 60,
        protocol: protocol::TCP,
        tcp_flags,
        ..Packet::default()
    }
}

fn on_packets(per_second: u64, ticks: u32) -> Ceiling {
    ceiling(mode::ENFORCE, per_second, 0, 0, ticks)
}

proptest! {
    /// Whatever a flood of newcomers sends, those who have proved themselves get what they need,
    /// the newcomers what is left, and the app no more than its ceiling.
    #[test]
    fn newcomers_get_what_the_proven_leave(
        per_second in 100_u64..5_000,
        part in 0_u64..=100,
        cpus in 1_usize..8,
        ticks in prop_oneof![Just(100_u32), Just(250), Just(300), Just(1000)],
    ) {
        const SECONDS: u64 = 2;
        let mut app = App::new(on_packets(per_second, ticks), cpus);
        let per_tick = per_second / u64::from(ticks) + 1;
        let (mut sent, mut proven, mut newcomers) = (0, 0, 0);
        let packet = datagram(100);
        for tick in 0..SECONDS * u64::from(ticks) {
            let due = (tick + 1) * per_second * part / 100 / u64::from(ticks) - sent;
            sent += due;
            // The flood is there first.
            newcomers += app.admitted(&packet, false, per_tick * 3 + per_second / 64);
            proven += app.admitted(&packet, true, due);
            app.jiffies += 1;
        }
        // A clock that moves in ticks, and what each CPU may hold back.
        let slack = per_tick * 2 + cpus as u64 * (per_second / 256 + 1) + 16;
        let rated = per_second * SECONDS;
        prop_assert_eq!(proven, sent, "of {} packets of proven sources", sent);
        let most = rated + rated / 1000 + per_second / 4 + slack;
        prop_assert!(proven + newcomers <= most, "{} + {} above {}", proven, newcomers, most);
        let least = (rated - sent).saturating_sub(per_second / 4 + slack);
        prop_assert!(newcomers >= least, "{} newcomers, not {}", newcomers, least);
    }

    /// Alone, each kind of source gets the whole.
    #[test]
    fn what_nobody_else_wants_is_there_for_anyone(
        per_second in 1_u64..5_000,
        is_proven: bool,
    ) {
        let mut app = App::new(on_packets(per_second, 250), 2);
        let mut admitted = 0;
        for _ in 0..500 {
            admitted += app.admitted(&datagram(100), is_proven, per_second / 250 + 2);
            app.jiffies += 1;
        }
        let slack = per_second / 64 + 2;
        prop_assert!(admitted + slack >= per_second * 2, "{}", admitted);
    }

    /// Large packets cost more than small ones.
    #[test]
    fn bytes_are_counted(length in 60_u32..9000) {
        let bytes = 1_000_000;
        let mut app = App::new(ceiling(mode::ENFORCE, 0, bytes, 0, 1000), 1);
        let mut admitted = 0;
        for _ in 0..2000 {
            admitted += app.admitted(&datagram(length), true, 20) * u64::from(length);
            app.jiffies += 1;
        }
        let slack = bytes / 4 + u64::from(length) * 9;
        prop_assert!(admitted.abs_diff(bytes * 2) <= slack, "{}", admitted);
    }
}

/// The first half of what may come at once is for anyone, the second for the proven alone.
#[test]
fn half_of_a_burst_is_kept_for_the_proven() {
    // A quarter of a second is two packets: eight may come.
    let mut app = App::new(on_packets(8, 250), 1);
    let newcomers = app.admitted(&datagram(100), false, 100);
    let proven = app.admitted(&datagram(100), true, 100);
    assert_eq!((newcomers, proven), (5, 4));
    assert_eq!(app.admitted(&datagram(100), false, 100), 0);
}

#[test]
fn a_flow_begins_with_a_syn_or_a_datagram_of_a_stranger() {
    let ceiling = ceiling(mode::ENFORCE, 0, 0, 8, 250);
    let all = |packet: Packet, is_proven| {
        let mut app = App::new(ceiling, 1);
        app.admitted(&packet, is_proven, 100)
    };
    assert_eq!(all(segment(flag::SYN), false), 5);
    assert_eq!(all(segment(flag::SYN), true), 9);
    assert_eq!(all(datagram(100), false), 5);
    assert_eq!(all(datagram(100), true), 100);
    assert_eq!(all(segment(flag::ACK), false), 100);
    assert_eq!(all(segment(flag::SYN | flag::ACK), false), 100);
}

/// A flood that opens too many flows must not use up the packets of those that are open.
#[test]
fn what_opens_too_many_flows_costs_no_packets() {
    let mut app = App::new(ceiling(mode::ENFORCE, 800, 0, 8, 250), 1);
    assert_eq!(app.admitted(&segment(flag::SYN), false, 1000), 5);
    assert!(app.admitted(&segment(flag::ACK), false, 100) >= 90);
}

#[test]
fn no_bound_is_no_ceiling() {
    let mut app = App::new(ceiling(mode::ENFORCE, 0, 0, 0, 250), 1);
    assert_eq!(app.admitted(&segment(flag::SYN), false, 100_000), 100_000);
}
