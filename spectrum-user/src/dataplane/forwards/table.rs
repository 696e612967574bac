//! The flows of one filter: lines of entries, and where these lead.
//!
//! An entry is one word, which is written last and cleared first. What it led to is left alone for a
//! second: longer than any packet is under way in the program.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use aya::maps::Map;
use spectrum_common::{
    address::Address,
    forward::{FLOWS, Forward, LINES, WAYS},
    maps as names,
};
use spectrum_ebpf::forward::Place;

use super::{Carried, lock};
use crate::dataplane::{clock, error::Error, shared_words::SharedWords};

/// How long a place is left alone.
const REST: Duration = Duration::from_secs(1);

/// Words of a [`Forward`], and what each holds.
const WORDS: usize = size_of::<Forward>() / size_of::<u64>();
const DATAGRAMS: usize = 11;
const BYTES: usize = 12;
const LAST: usize = 13;

/// The two ends of a flow as it arrives, source first, and as it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) from: [SocketAddr; 2],
    pub(super) to: [SocketAddr; 2],
    /// By which it has to arrive; 0 for any.
    pub(super) interface: u32,
}

/// One filter's flows, for their one writer.
pub struct Table {
    lines: SharedWords,
    flows: SharedWords,
    seed: u32,
    room: Mutex<Room>,
}

/// Places that no entry leads to.
struct Room {
    /// From here on, none was ever used.
    untouched: u32,
    /// Used before, and since when they rest: the oldest first.
    resting: VecDeque<(u32, Instant)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

/// A flow in a table. Dropping it gives its place back.
#[derive(Debug)]
pub(super) struct Slot {
    table: Arc<Table>,
    index: u32,
    /// Index of the word that leads to it, and its value.
    entry: (usize, u64),
}

impl Table {
    /// Takes over the two maps, and forgets what they hold.
    pub(super) fn map(lines: &Map, flows: &Map, seed: u32) -> Result<Self, Error> {
        let table = Self {
            lines: SharedWords::map(names::FORWARD_LINES, lines, LINES as usize * WAYS)?,
            flows: SharedWords::map(names::FORWARDS, flows, FLOWS * WORDS)?,
            seed,
            room: Mutex::new(Room::new()),
        };
        for entry in table.lines.all() {
            entry.store(0, Ordering::Relaxed);
        }
        Ok(table)
    }

    /// Notes a flow; `None` if there is no room.
    pub(super) fn note(self: &Arc<Self>, ends: &Ends) -> Option<Slot> {
        let [source, destination] = ends.from.map(|end| Address::from(end.ip()));
        let [source_port, destination_port] = ends.from.map(|end| end.port());
        let place = Place::new(
            (&source, source_port),
            (&destination, destination_port),
            self.seed,
        );
        // All that is written is written under this lock.
        let mut room = lock(&self.room);
        let first = place.line_index() as usize * WAYS;
        let entry = (first..first + WAYS).find(|entry| self.lines.get(*entry) == 0)?;
        let index = room.take(Instant::now())?;
        self.write(index, ends);
        let value = place.entry(index);
        self.lines.all().get(entry)?.store(value, Ordering::Release);
        Some(Slot {
            table: Arc::clone(self),
            index,
            entry: (entry, value),
        })
    }

    fn write(&self, index: u32, ends: &Ends) {
        let [source, destination] = ends.from.map(|end| Address::from(end.ip()).halves_be);
        let [new_source, new_destination] = ends.to.map(|end| Address::from(end.ip()).halves_be);
        let addresses = [source, destination, new_source, new_destination].concat();
        let [a, b] = ends.from.map(|end| end.port().to_ne_bytes());
        let [c, d] = ends.to.map(|end| end.port().to_ne_bytes());
        let ports = u64::from_ne_bytes([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]);
        let mut interface = [0; 8];
        interface[..4].copy_from_slice(&ends.interface.to_ne_bytes());
        let interface = u64::from_ne_bytes(interface);
        let renewed = clock::monotonic_coarse_ns();
        let rest = [ports, interface, renewed, 0, 0, 0, 0, 0];
        let words = addresses.into_iter().chain(rest);
        for (word, value) in words.enumerate() {
            self.flows.set(word_of(index, word), value);
        }
    }
}

impl Slot {
    /// Packets do not find it any more. A second call has no effect: another flow has another entry.
    pub(super) fn forget(&self) {
        let (at, value) = self.entry;
        if let Some(word) = self.table.lines.all().get(at) {
            let _ = word.compare_exchange(value, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn carried(&self) -> Carried {
        let word = |word| self.table.flows.get(word_of(self.index, word));
        Carried {
            datagrams: word(DATAGRAMS),
            bytes: word(BYTES),
            last: Duration::from_nanos(word(LAST)),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.forget();
        let mut room = lock(&self.table.room);
        room.resting.push_back((self.index, Instant::now()));
    }
}

const fn word_of(index: u32, word: usize) -> usize {
    index as usize * WORDS + word
}

impl Room {
    fn new() -> Self {
        Self {
            untouched: 0,
            resting: VecDeque::new(),
        }
    }

    fn take(&mut self, now: Instant) -> Option<u32> {
        if let Some((index, since)) = self.resting.front()
            && now.duration_since(*since) >= REST
        {
            let index = *index;
            self.resting.pop_front();
            return Some(index);
        }
        let index = self.untouched;
        let is_there = (index as usize) < FLOWS;
        self.untouched += u32::from(is_there);
        is_there.then_some(index)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "a number of flows")]
mod tests {
    use super::*;

    fn table() -> Arc<Table> {
        Arc::new(Table {
            lines: SharedWords::private(LINES as usize * WAYS).expect("memory"),
            flows: SharedWords::private(FLOWS * WORDS).expect("memory"),
            seed: 7,
            room: Mutex::new(Room::new()),
        })
    }

    fn ends(client: u16) -> Ends {
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        Ends {
            from: [
                SocketAddr::new([198, 51, 100, 7].into(), client),
                at("203.0.113.1:53"),
            ],
            to: [at("10.0.0.1:51000"), at("10.0.0.2:5300")],
            interface: 7,
        }
    }

    fn entries(table: &Table) -> usize {
        let all = table.lines.all().iter();
        all.filter(|word| word.load(Ordering::Relaxed) != 0).count()
    }

    #[test]
    fn the_layout_is_that_of_the_program() {
        let table = table();
        let slot = table.note(&ends(40_000)).expect("room");
        let word = |at: usize| table.flows.get(word_of(slot.index, at)).to_ne_bytes();
        let wanted = Forward {
            source_port: 40_000,
            destination_port: 53,
            new_source_port: 51_000,
            new_destination_port: 5300,
            ..Forward::default()
        };
        let at = std::mem::offset_of!(Forward, source_port) / 8;
        let ports = [
            wanted.source_port,
            wanted.destination_port,
            wanted.new_source_port,
            wanted.new_destination_port,
        ];
        assert_eq!(word(at).to_vec(), ports.map(u16::to_ne_bytes).concat());
        let address = |ip: [u8; 4]| Address::from(std::net::IpAddr::from(ip)).halves_be;
        let addresses = [
            ([198, 51, 100, 7], std::mem::offset_of!(Forward, source)),
            ([203, 0, 113, 1], std::mem::offset_of!(Forward, destination)),
            ([10, 0, 0, 1], std::mem::offset_of!(Forward, new_source)),
            (
                [10, 0, 0, 2],
                std::mem::offset_of!(Forward, new_destination),
            ),
        ];
        for (ip, at) in addresses {
            let [high, low] = address(ip);
            assert_eq!(u64::from_ne_bytes(word(at / 8)), high);
            assert_eq!(u64::from_ne_bytes(word(at / 8 + 1)), low);
        }
        let at = std::mem::offset_of!(Forward, interface);
        assert_eq!(at % 8, 0);
        assert_eq!(word(at / 8)[..4], 7_u32.to_ne_bytes());
        let renewed = word(std::mem::offset_of!(Forward, renewed_ns) / 8);
        assert_ne!(u64::from_ne_bytes(renewed), 0);
        assert_eq!(DATAGRAMS, std::mem::offset_of!(Forward, packets) / 8);
        assert_eq!(BYTES, std::mem::offset_of!(Forward, bytes) / 8);
        assert_eq!(LAST, std::mem::offset_of!(Forward, last_ns) / 8);
    }

    #[test]
    fn a_place_is_left_alone_while_packets_may_be_under_way() {
        let mut room = Room::new();
        let now = Instant::now();
        assert_eq!(room.take(now), Some(0));
        room.resting.push_back((0, now));
        assert_eq!(room.take(now), Some(1));
        assert_eq!(room.take(now + REST), Some(0));
        assert_eq!(room.take(now + REST), Some(2));
    }

    #[test]
    fn no_session_takes_the_place_of_another() {
        let table = table();
        let slots: Vec<_> = (0..FLOWS as u32 / 2)
            .filter_map(|client| {
                let [_, _, high, low] = client.to_be_bytes();
                table.note(&ends(u16::from_be_bytes([high, low])))
            })
            .collect();
        assert!(slots.len() > FLOWS / 2 - 10, "{}", slots.len());
        assert_eq!(entries(&table), slots.len());
        drop(slots);
        assert_eq!(entries(&table), 0, "something is left");
    }

    #[test]
    fn a_full_table_refuses() {
        let mut room = Room::new();
        room.untouched = FLOWS as u32;
        assert_eq!(room.take(Instant::now()), None);
    }

    #[test]
    fn forgetting_twice_forgets_no_other() {
        let table = table();
        let first = table.note(&ends(1)).expect("room");
        first.forget();
        let (at, _) = first.entry;
        table.lines.set(at, 42);
        drop(first);
        assert_eq!(table.lines.get(at), 42);
    }
}
