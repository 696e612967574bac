//! The table of listed sources, and the hints that go with it: building, changing and reading what
//! lies in memory.
//!
//! All words are written and read at once; an entry's hints are written first, and its key last: the
//! program may read both at any time.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use spectrum_common::{
    access::{FILTER_WORDS, FIRST_ENTRIES, LINE_WORDS, Line, REGION_WORDS_V6, first_word, header},
    address::Address,
};
use spectrum_ebpf::access::{
    Place,
    entry::{Entry, Key},
    filter, region,
};

/// The key of an entry: scope (a slot, or 0 for all apps) and prefix.
pub type EntryKey = (u32, IpNet);

/// A table in memory, as it lies in the map.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    words: &'a [AtomicU64],
    hints: &'a [AtomicU64],
}

/// Lines of entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    lines_v4: usize,
    lines_v6: usize,
}

/// Neither line of an entry has a free place.
#[derive(Debug)]
pub(super) struct NoRoom;

/// A word of each entry's place is its key's first; words until the next place.
const WORDS_V4: usize = 2;
const WORDS_V6: usize = 4;

/// Lines of entries that even the smallest table has, so that `spectrum block` seldom needs a new
/// one; a page of memory.
const MIN_LINES: usize = 64;

impl Size {
    pub(super) const EMPTY: Self = Self {
        lines_v4: 0,
        lines_v6: 0,
    };

    /// For so many entries, in lines that are half full.
    pub(super) fn of(v4: usize, v6: usize) -> Self {
        let lines = |entries: usize, words| {
            let lines = (2 * entries).div_ceil(LINE_WORDS / words);
            lines.max(MIN_LINES)
        };
        Self {
            lines_v4: lines(v4, WORDS_V4),
            lines_v6: lines(v6, WORDS_V6),
        }
    }

    pub(super) fn doubled(self) -> Self {
        Self {
            lines_v4: 2 * self.lines_v4,
            lines_v6: 2 * self.lines_v6,
        }
    }

    /// Lines of the whole table.
    pub(super) fn lines(self) -> usize {
        if self == Self::EMPTY {
            return 1;
        }
        FIRST_ENTRIES as usize + self.lines_v4 + self.lines_v6
    }
}

impl<'a> Table<'a> {
    /// A table that was built; the words may also be those of one without entries.
    pub(super) fn new(words: &'a [AtomicU64], hints: &'a [AtomicU64]) -> Self {
        Self { words, hints }
    }

    /// Makes a table without entries of words that are all zero, as the hints are.
    pub(super) fn start(
        words: &'a [AtomicU64],
        hints: &'a [AtomicU64],
        size: Size,
        seed: u64,
    ) -> Self {
        let table = Self { words, hints };
        table.set_header(header::SEED, seed);
        table.set_header(header::LINES_V4, size.lines_v4 as u64);
        table.set_header(header::LINES_V6, size.lines_v6 as u64);
        table
    }

    pub(super) fn header(self, word: usize) -> u64 {
        self.words.get(word).map_or(0, load)
    }

    pub(super) fn set_header(self, word: usize, value: u64) {
        if let Some(word) = self.words.get(word) {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn size(self) -> Size {
        let lines = |word| usize::try_from(self.header(word)).unwrap_or(usize::MAX);
        Size {
            lines_v4: lines(header::LINES_V4),
            lines_v6: lines(header::LINES_V6),
        }
    }

    /// The entry for exactly this prefix.
    pub(super) fn get(self, key: EntryKey) -> Option<Entry> {
        let place = self.find(coded(key))?;
        Some(Entry::from_bits(load(place.get(1)?)))
    }

    /// Puts an entry in the place of any other for the same prefix. Sources see the old one or
    /// the new one.
    pub(super) fn put(self, key: EntryKey, entry: Entry) -> Result<(), NoRoom> {
        let coded = coded(key);
        if let Some(place) = self.find(coded) {
            write_value(place, entry);
            return Ok(());
        }
        let place = self.free_place(coded).ok_or(NoRoom)?;
        self.mark(key.1);
        fill(place, coded, entry);
        self.set_header(header::ENTRIES, self.header(header::ENTRIES) + 1);
        Ok(())
    }

    /// The same while nobody reads the table yet: entries may move to make room.
    pub(super) fn build(self, key: EntryKey, entry: Entry) -> Result<(), NoRoom> {
        if self.put(key, entry).is_err() {
            self.make_room(coded(key))?;
            self.put(key, entry)?;
        }
        Ok(())
    }

    /// Takes an entry out. Its hints stay: they cost a look-up, no more.
    pub(super) fn remove(self, key: EntryKey) {
        if let Some(tag) = self.find(coded(key)).and_then(<[_]>::first) {
            tag.store(0, Ordering::Release);
            self.set_header(header::ENTRIES, self.header(header::ENTRIES) - 1);
        }
    }

    /// All entries, in no order.
    pub(super) fn entries(self) -> impl Iterator<Item = (EntryKey, Entry)> + 'a {
        let size = self.size();
        let first = FIRST_ENTRIES as usize;
        let v4 = self.lines(first, size.lines_v4);
        let v6 = self.lines(first + size.lines_v4, size.lines_v6);
        let v4 = v4.chunks_exact(WORDS_V4).filter_map(|place| {
            let key = Key::from_words([load(place.first()?), 0, 0]);
            (!key.is_free()).then_some(())?;
            let net = Ipv4Net::new(key.network_v4().into(), length(key)).ok()?;
            Some((
                (key.scope(), net.into()),
                Entry::from_bits(load(place.get(1)?)),
            ))
        });
        let v6 = v6.chunks_exact(WORDS_V6).filter_map(|place| {
            let [tag, value, high, low] = place else {
                return None;
            };
            let key = Key::from_words([load(tag), load(high), load(low)]);
            (!key.is_free()).then_some(())?;
            let [high, low] = key.network_v6().map(u128::from);
            let net = Ipv6Net::new((high << 64 | low).into(), length(key)).ok()?;
            Some(((key.scope(), net.into()), Entry::from_bits(load(value))))
        });
        v4.chain(v6)
    }

    /// A copy of a line, as the program would read it.
    pub(super) fn line(self, index: u32) -> Option<Line> {
        let words = self.lines(index as usize, 1).first_chunk()?;
        Some(Line {
            words: words.each_ref().map(load),
        })
    }

    /// A word of the hints.
    pub(super) fn hint(self, word: u32) -> u64 {
        self.hints.get(word as usize).map_or(0, load)
    }

    fn lines(self, first: usize, count: usize) -> &'a [AtomicU64] {
        let words = first * LINE_WORDS..(first + count) * LINE_WORDS;
        self.words.get(words).unwrap_or_default()
    }

    /// The two lines that may hold an entry, cut into places.
    fn places(self, key: Coded) -> impl Iterator<Item = &'a [AtomicU64]> {
        let size = self.size();
        let (first, count, words) = match key.family {
            Family::V4 => (0, size.lines_v4, WORDS_V4),
            Family::V6 => (size.lines_v4, size.lines_v6, WORDS_V6),
        };
        let first = u32::try_from(first).expect("the kernel counts lines in 32 bits");
        let first = FIRST_ENTRIES + first;
        let lines = key
            .key
            .lines(self.header(header::SEED), first, count as u64);
        // A table without entries has no lines of entries either.
        let lines = lines.map(|line| self.lines(line as usize, count.min(1)));
        lines
            .into_iter()
            .flat_map(move |line| line.chunks_exact(words))
    }

    fn find(self, key: Coded) -> Option<&'a [AtomicU64]> {
        self.places(key).find(|place| key_at(place) == key.key)
    }

    /// A free place in the line that has more of them.
    fn free_place(self, key: Coded) -> Option<&'a [AtomicU64]> {
        let places: Vec<_> = self.places(key).collect();
        let (a, b) = places.split_at(places.len() / 2);
        let free =
            |line: &[&'a [AtomicU64]]| line.iter().filter(|place| key_at(place).is_free()).count();
        let line = if free(b) > free(a) { b } else { a };
        line.iter().copied().find(|place| key_at(place).is_free())
    }

    /// Moves one of the entries in the lines of `key` to its other line.
    fn make_room(self, key: Coded) -> Result<(), NoRoom> {
        for place in self.places(key) {
            let moving = Coded {
                key: key_at(place),
                family: key.family,
            };
            if let Some(free) = self.free_place(moving) {
                let value = place.get(1).map_or(0, load);
                fill(free, moving, Entry::from_bits(value));
                if let Some(tag) = place.first() {
                    tag.store(0, Ordering::Release);
                }
                return Ok(());
            }
        }
        Err(NoRoom)
    }

    /// Sets the hints of a prefix.
    fn mark(self, prefix: IpNet) {
        let length = u32::from(prefix.prefix_len());
        match prefix {
            IpNet::V4(net) => self.mark_v4(net.network().into(), length),
            IpNet::V6(net) => {
                let network = Address::from(IpAddr::from(net.network()));
                self.mark_v6(network.high_bits(), length);
            }
        }
    }

    fn mark_v4(self, network: u32, length: u32) {
        let last = network | u32::MAX.checked_shr(length).unwrap_or(0);
        self.set_range(filter::v4(network), filter::v4(last));
        let lengths = 1 << region::bit(32, length);
        if length <= region::SHORT_V4 {
            for network in (network >> 16)..=(last >> 16) {
                self.set(region::v4(network << 16), lengths);
            }
        } else {
            for network in (network >> 8)..=(last >> 8) {
                self.set(region::near_v4(network << 8), lengths);
            }
        }
    }

    fn mark_v6(self, network: u64, length: u32) {
        let (word, lengths) = if length > 64 {
            (0, 1 << region::bit(128, length))
        } else {
            (1, 1 << region::bit(64, length))
        };
        let mark_region = |place: Place| {
            let word = place.word + word;
            self.set(Place { word, ..place }, lengths);
        };
        if length < SHORTEST_MARKED {
            for word in self.hints(first_word::FILTER_V6, FILTER_WORDS) {
                word.store(u64::MAX, Ordering::Relaxed);
            }
            let regions = self.hints(first_word::REGIONS_V6, REGION_WORDS_V6);
            for word in regions.iter().skip(word as usize).step_by(2) {
                word.fetch_or(lengths, Ordering::Relaxed);
            }
            return;
        }
        if length >= 48 {
            self.set(filter::v6(network >> 16), 1);
            mark_region(region::v6(network));
            return;
        }
        for step in 0..1_u64 << 32_u32.saturating_sub(length) {
            let network = network + (step << 32);
            self.set(filter::v6(network >> 32), 1);
            mark_region(region::v6(network));
        }
    }

    /// Sets the bits from `first` to `last`.
    fn set_range(self, first: Place, last: Place) {
        for word in first.word..=last.word {
            let mut bits = u64::MAX;
            if word == first.word {
                bits &= u64::MAX << first.shift;
            }
            if word == last.word {
                bits &= u64::MAX >> (u64::BITS - 1 - last.shift);
            }
            self.set(Place { word, shift: 0 }, bits);
        }
    }

    fn set(self, place: Place, bits: u64) {
        if let Some(word) = self.hints.get(place.word as usize) {
            word.fetch_or(bits << place.shift, Ordering::Relaxed);
        }
    }

    fn hints(self, first: u32, count: u32) -> &'a [AtomicU64] {
        let words = first as usize..(first + count) as usize;
        self.hints.get(words).unwrap_or_default()
    }
}

/// An IPv6 prefix that is shorter marks everything: it covers more /32s than are worth a bit each.
const SHORTEST_MARKED: u32 = 20;

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// A key as the table holds it.
#[derive(Clone, Copy)]
struct Coded {
    key: Key,
    family: Family,
}

fn coded((scope, prefix): EntryKey) -> Coded {
    let length = u32::from(prefix.prefix_len());
    match prefix {
        IpNet::V4(net) => Coded {
            key: Key::v4(scope, net.network().into(), length),
            family: Family::V4,
        },
        IpNet::V6(net) => {
            let network = Address::from(IpAddr::from(net.network()));
            Coded {
                key: Key::v6(scope, network.halves(), length),
                family: Family::V6,
            }
        }
    }
}

fn length(key: Key) -> u8 {
    u8::try_from(key.length()).unwrap_or(u8::MAX)
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn key_at(place: &[AtomicU64]) -> Key {
    match place {
        [tag, _, high, low] => Key::from_words([load(tag), load(high), load(low)]),
        [tag, ..] => Key::from_words([load(tag), 0, 0]),
        [] => Key::from_words([0; 3]),
    }
}

fn write_value(place: &[AtomicU64], entry: Entry) {
    if let Some(value) = place.get(1) {
        value.store(entry.to_bits(), Ordering::Relaxed);
    }
}

/// Writes an entry into a free place, its tag last.
fn fill(place: &[AtomicU64], key: Coded, entry: Entry) {
    let [tag, high, low] = key.key.words();
    write_value(place, entry);
    if let [_, _, high_word, low_word] = place {
        high_word.store(high, Ordering::Relaxed);
        low_word.store(low, Ordering::Relaxed);
    }
    if let Some(word) = place.first() {
        word.store(tag, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "access_table_test.rs"]
mod access_table_test;
