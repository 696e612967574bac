//! A table in shared memory, and the map that says which of several is in use: so are the lists kept,
//! and where addresses are.

use std::{fs, path::PathBuf, sync::atomic::AtomicU64};

use aya::maps::{ArrayOfMaps, Map, MapData, MapFd, MapType};
use spectrum_common::{access::LINE_WORDS, maps as names};

use super::{error::Error, pins, shared_words::SharedWords};

/// `BPF_F_INNER_MAP | BPF_F_MMAPABLE`, as the program declares it.
const FLAGS: u32 = 1 << 12 | 1 << 10;

/// Lines of a table that says nothing: its header.
const EMPTY: usize = 1;

/// Bytes of a line of the table.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const LINE_SIZE: u32 = LINE_WORDS as u32 * u64::BITS / u8::BITS;

/// Names of a map that leads to a table, and of that table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    map: &'static str,
    table: &'static str,
}

pub(super) const ACCESS: Names = Names {
    map: names::ACCESS,
    table: names::ACCESS_TABLE,
};

pub(super) const GEO: Names = Names {
    map: names::GEO,
    table: names::GEO_TABLE,
};

impl Names {
    pub(super) const ALL: [Self; 2] = [ACCESS, GEO];

    /// The name of the pin of the table.
    pub(super) const fn table(self) -> &'static str {
        self.table
    }
}

/// Which table the program reads, and that table.
pub(super) struct TableMap {
    names: Names,
    in_use: ArrayOfMaps<MapData, MapFd>,
    table: SharedTable,
    /// Where the table is pinned; `None` for a private filter.
    pin: Option<PathBuf>,
}

impl TableMap {
    /// The table pinned at `pin`, beside the pin of the map that leads to it.
    pub(super) fn open(names: Names, in_use: Map, pin: PathBuf) -> Result<Self, Error> {
        let table = MapData::from_pin(&pin).map_err(Error::map(names.table, "open its pin"))?;
        Ok(Self {
            names,
            in_use: of_tables(names, in_use)?,
            table: SharedTable::new(names, table)?,
            pin: Some(pin),
        })
    }

    /// For whoever loads the program: the same, or an empty table where there is none yet. It is
    /// told to the program in any case, since a predecessor may have died on the point of it.
    pub(super) fn adopt(names: Names, in_use: Map, pin: Option<PathBuf>) -> Result<Self, Error> {
        let mut map = match pin {
            Some(pin) if pin.exists() => Self::open(names, in_use, pin)?,
            pin => {
                let map = Self {
                    names,
                    in_use: of_tables(names, in_use)?,
                    table: SharedTable::create(names, EMPTY)?,
                    pin,
                };
                map.pin(&map.table)?;
                map
            }
        };
        map.announce()?;
        Ok(map)
    }

    /// The words of the table in use.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.table.words()
    }

    /// Follows another process that has put a table in the place of this one; while the pins are
    /// locked, none does.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        let Some(pin) = &self.pin else {
            return Ok(());
        };
        let name = self.names.table;
        let pinned = MapData::from_pin(pin).map_err(Error::map(name, "open its pin"))?;
        let id = |data: &MapData| data.info().map(|info| info.id());
        let id = |data| id(data).map_err(Error::map(name, "look at it"));
        if id(&pinned)? != id(self.table.data()?)? {
            self.table = SharedTable::new(self.names, pinned)?;
        }
        Ok(())
    }

    /// Lets the program read `table` from now on, and forgets the one before.
    pub(super) fn replace(&mut self, table: SharedTable) -> Result<(), Error> {
        self.pin(&table)?;
        self.table = table;
        self.announce()
    }

    /// Lets the program of a private filter read the table of another filter, as it is now.
    pub(super) fn share(&mut self, from: Self) -> Result<(), Error> {
        self.table = from.table;
        self.announce()
    }

    /// Tells the program of the table. Costs some milliseconds, for the kernel waits until no
    /// packet is under way with the one before.
    pub(super) fn announce(&mut self) -> Result<(), Error> {
        self.in_use
            .set(0, self.table.data()?.fd(), 0)
            .map_err(Error::map(self.names.map, "write"))
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

fn of_tables(names: Names, map: Map) -> Result<ArrayOfMaps<MapData, MapFd>, Error> {
    map.try_into()
        .map_err(Error::map(names.map, "use it as what it should be"))
}

/// A table, mapped into memory.
pub(super) struct SharedTable {
    names: Names,
    map: Map,
    words: SharedWords,
}

impl SharedTable {
    /// A table of zeros.
    pub(super) fn create(names: Names, lines: usize) -> Result<Self, Error> {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let layout =
            aya_obj::Map::new_from_params(MapType::Array as u32, 4, LINE_SIZE, lines, FLAGS);
        let data = MapData::create(layout, names.table, None)
            .map_err(Error::map(names.table, "make room for its lines"))?;
        Self::new(names, data)
    }

    fn new(names: Names, data: MapData) -> Result<Self, Error> {
        let name = names.table;
        let info = data.info().map_err(Error::map(name, "look at it"))?;
        let map = Map::from_map_data(data).map_err(Error::map(name, "use it as an array"))?;
        let words = info.max_entries() as usize * LINE_WORDS;
        Ok(Self {
            words: SharedWords::map(name, &map, words)?,
            names,
            map,
        })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.words.all()
    }

    fn data(&self) -> Result<&MapData, Error> {
        let Map::Array(data) = &self.map else {
            return Err(Error::Missing(self.names.table));
        };
        Ok(data)
    }
}
