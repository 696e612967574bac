//! The maps of the lists: a table in shared memory, the one place that says which is in use, and the
//! hints.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{ArrayOfMaps, Map, MapData, MapFd, MapType};
use spectrum_common::{
    access::{HINT_WORDS, LINE_WORDS, action, header},
    maps as names,
};
use spectrum_ebpf::access::entry::Entry;

use super::{
    access_table::{self, EntryKey, Size, Table},
    error::Error,
    pins,
    shared_words::SharedWords,
};

/// `BPF_F_INNER_MAP | BPF_F_MMAPABLE`, as the program declares it.
const FLAGS: u32 = 1 << 12 | 1 << 10;

/// Bytes of a line of the table.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const LINE_SIZE: u32 = LINE_WORDS as u32 * u64::BITS / u8::BITS;

/// Which table the program reads, that table, and its hints.
pub(super) struct AccessMap {
    hints: SharedWords,
    in_use: ArrayOfMaps<MapData, MapFd>,
    table: SharedTable,
    /// Where the table is pinned; `None` for a private filter.
    pin: Option<PathBuf>,
    of_operator: Option<OfOperator>,
}

/// The operator's entries, as they were after so many changes: a million others are not looked
/// through again for them.
struct OfOperator {
    changes: u64,
    entries: Vec<(EntryKey, Entry)>,
}

impl AccessMap {
    /// The table pinned at `pin`, beside the pin of the map that leads to it.
    pub(super) fn open(hints: &Map, in_use: Map, pin: PathBuf) -> Result<Self, Error> {
        let table =
            MapData::from_pin(&pin).map_err(Error::map(names::ACCESS_TABLE, "open its pin"))?;
        Ok(Self {
            hints: map_hints(hints)?,
            in_use: of_tables(in_use)?,
            table: SharedTable::new(table)?,
            pin: Some(pin),
            of_operator: None,
        })
    }

    /// For whoever loads the program: the same, or an empty table where there is none yet. It is
    /// told to the program in any case, since a predecessor may have died on the point of it.
    pub(super) fn adopt(hints: &Map, in_use: Map, pin: Option<PathBuf>) -> Result<Self, Error> {
        let mut map = match pin {
            Some(pin) if pin.exists() => Self::open(hints, in_use, pin)?,
            pin => {
                let map = Self {
                    hints: map_hints(hints)?,
                    in_use: of_tables(in_use)?,
                    table: SharedTable::create(Size::EMPTY)?,
                    pin,
                    of_operator: None,
                };
                map.pin(&map.table)?;
                map
            }
        };
        map.announce()?;
        Ok(map)
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table::new(self.table.words(), self.hints.all())
    }

    /// Follows another process that has put a table in the place of this one; while the pins are
    /// locked, none does.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        let Some(pin) = &self.pin else {
            return Ok(());
        };
        let name = names::ACCESS_TABLE;
        let pinned = MapData::from_pin(pin).map_err(Error::map(name, "open its pin"))?;
        let id = |data: &MapData| data.info().map(|info| info.id());
        let id = |data| id(data).map_err(Error::map(name, "look at it"));
        if id(&pinned)? != id(self.table.data()?)? {
            self.table = SharedTable::new(pinned)?;
        }
        Ok(())
    }

    /// The operator's entries, those that are over included.
    pub(super) fn of_operator(&mut self) -> Vec<(EntryKey, Entry)> {
        let table = self.table();
        let changes = table.header(header::CHANGES);
        if let Some(known) = &self.of_operator
            && known.changes == changes
        {
            return known.entries.clone();
        }
        let entries = table.entries();
        let entries: Vec<_> = entries
            .filter(|(_, entry)| entry.operator != action::NONE)
            .collect();
        self.of_operator = Some(OfOperator {
            changes,
            entries: entries.clone(),
        });
        entries
    }

    /// Lets the program read another table from now on, and forgets the one before. The operator's
    /// entries are the same.
    pub(super) fn replace(&mut self, built: BuiltTable) -> Result<(), Error> {
        let changes = self.table().header(header::CHANGES);
        built.table().set_header(header::CHANGES, changes);
        // As long as either table may be read, the hints are those of both.
        for (held, new) in self.hints.all().iter().zip(&built.hints) {
            held.fetch_or(new.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.pin(&built.table)?;
        self.table = built.table;
        self.announce()?;
        self.take_hints(&built.hints);
        Ok(())
    }

    /// Takes the hints of another filter, whose table this one shares.
    pub(super) fn copy_hints(&self, from: &Self) {
        self.take_hints(from.hints.all());
    }

    fn take_hints(&self, hints: &[AtomicU64]) {
        for (held, new) in self.hints.all().iter().zip(hints) {
            held.store(new.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Tells the program of the table. Costs some milliseconds, for the kernel waits until no
    /// packet is under way with the one before.
    pub(super) fn announce(&mut self) -> Result<(), Error> {
        self.in_use
            .set(0, self.table.data()?.fd(), 0)
            .map_err(Error::map(names::ACCESS, "write"))
    }

    /// Notes that the pins were moved.
    pub(super) fn moved_to(&mut self, pin: PathBuf) {
        self.pin = Some(pin);
    }

    /// In this order, what is pinned is the newest table, and whole.
    fn pin(&self, table: &SharedTable) -> Result<(), Error> {
        let Some(pin) = &self.pin else {
            return Ok(());
        };
        let next = pins::unfinished(pin);
        pins::remove(&next)?;
        let data = table.data()?;
        data.pin(&next).map_err(Error::pin(&next, "pin a table"))?;
        fs::rename(&next, pin).map_err(Error::pin(next, "rename"))
    }
}

fn map_hints(map: &Map) -> Result<SharedWords, Error> {
    SharedWords::map(names::ACCESS_HINTS, map, HINT_WORDS)
}

fn of_tables(map: Map) -> Result<ArrayOfMaps<MapData, MapFd>, Error> {
    map.try_into()
        .map_err(Error::map(names::ACCESS, "use it as what it should be"))
}

/// A table that the program does not read yet.
pub(super) struct BuiltTable {
    table: SharedTable,
    hints: Box<[AtomicU64]>,
}

impl BuiltTable {
    /// An empty one.
    pub(super) fn start(size: Size, seed: u64) -> Result<Self, Error> {
        let table = SharedTable::create(size)?;
        let hints = access_table::no_hints();
        Table::start(table.words(), &hints, size, seed);
        Ok(Self { table, hints })
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table::new(self.table.words(), &self.hints)
    }
}

/// A table, mapped into memory.
struct SharedTable {
    map: Map,
    words: SharedWords,
}

impl SharedTable {
    /// A table of zeros.
    fn create(size: Size) -> Result<Self, Error> {
        let lines = u32::try_from(size.lines()).unwrap_or(u32::MAX);
        let layout =
            aya_obj::Map::new_from_params(MapType::Array as u32, 4, LINE_SIZE, lines, FLAGS);
        let data = MapData::create(layout, names::ACCESS_TABLE, None)
            .map_err(Error::map(names::ACCESS_TABLE, "make room for the lists"))?;
        Self::new(data)
    }

    fn new(data: MapData) -> Result<Self, Error> {
        let name = names::ACCESS_TABLE;
        let info = data.info().map_err(Error::map(name, "look at it"))?;
        let map = Map::from_map_data(data).map_err(Error::map(name, "use it as an array"))?;
        let words = info.max_entries() as usize * LINE_WORDS;
        Ok(Self {
            words: SharedWords::map(name, &map, words)?,
            map,
        })
    }

    fn words(&self) -> &[AtomicU64] {
        self.words.all()
    }

    fn data(&self) -> Result<&MapData, Error> {
        let Map::Array(data) = &self.map else {
            return Err(Error::Missing(names::ACCESS_TABLE));
        };
        Ok(data)
    }
}
