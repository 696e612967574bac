//! The maps of the lists: their table, and its hints.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::Map;
use spectrum_common::{
    access::{HINT_WORDS, action, header},
    maps as names,
};
use spectrum_ebpf::access::entry::Entry;

use super::{
    access_table::{EntryKey, Size, Table},
    error::Error,
    shared_words::SharedWords,
    table_map::{self, SharedTable, TableMap},
};

/// Which table the program reads, that table, and its hints.
pub(super) struct AccessMap {
    hints: SharedWords,
    tables: TableMap,
    of_operator: Option<OfOperator>,
}

/// What the operator says, as it was after so many changes: a million other entries are not looked
/// through again for it. What the documents say of the same prefixes is not part of it, for that
/// changes without him.
struct OfOperator {
    changes: u64,
    entries: Vec<(EntryKey, Entry)>,
}

impl AccessMap {
    pub(super) fn new(hints: &Map, tables: TableMap) -> Result<Self, Error> {
        let hints = SharedWords::map(names::ACCESS_HINTS, hints, HINT_WORDS)?;
        Ok(Self {
            hints,
            tables,
            of_operator: None,
        })
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table::new(self.tables.words(), self.hints.all())
    }

    /// See [`TableMap::refresh`].
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        self.tables.refresh()
    }

    /// The operator's word of each prefix of his, those that are over included; without that of the
    /// documents.
    pub(super) fn of_operator(&mut self) -> Vec<(EntryKey, Entry)> {
        let table = self.table();
        let changes = table.header(header::CHANGES);
        if let Some(known) = &self.of_operator
            && known.changes == changes
        {
            return known.entries.clone();
        }
        let entries = table.entries();
        let entries = entries.filter(|(_, entry)| entry.operator != action::NONE);
        let alone = |entry| Entry {
            listed: action::NONE,
            ..entry
        };
        let entries: Vec<_> = entries.map(|(key, entry)| (key, alone(entry))).collect();
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
        for (held, new) in self.hints.all().iter().zip(built.hints.all()) {
            held.fetch_or(new.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.tables.replace(built.table)?;
        self.take_hints(built.hints.all());
        Ok(())
    }

    /// See [`TableMap::share`].
    pub(super) fn share(&mut self, from: Self) -> Result<(), Error> {
        self.take_hints(from.hints.all());
        self.tables.share(from.tables)
    }

    fn take_hints(&self, hints: &[AtomicU64]) {
        for (held, new) in self.hints.all().iter().zip(hints) {
            held.store(new.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// See [`TableMap::announce`].
    pub(super) fn announce(&mut self) -> Result<(), Error> {
        self.tables.announce()
    }

    /// Notes that the pins were moved.
    pub(super) fn moved_to(&mut self, pin: std::path::PathBuf) {
        self.tables.moved_to(pin);
    }
}

/// A table that the program does not read yet.
pub(super) struct BuiltTable {
    table: SharedTable,
    hints: SharedWords,
}

impl BuiltTable {
    /// An empty one.
    pub(super) fn start(size: Size, seed: u64) -> Result<Self, Error> {
        let table = SharedTable::create(table_map::ACCESS, size.lines())?;
        let hints = SharedWords::private(HINT_WORDS)?;
        Table::start(table.words(), hints.all(), size, seed);
        Ok(Self { table, hints })
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table::new(self.table.words(), self.hints.all())
    }
}
