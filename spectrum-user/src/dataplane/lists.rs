//! Blocklists and allowlists: entries of the documents and of the operator.
//!
//! An entry is a prefix in a scope (all apps, or one). The operator's word and that of the
//! documents lie side by side in it, so that the documents' holds again once the operator's is
//! over. All entries lie in one table (`access_table`), which is changed in place for the operator
//! and built anew beside the one in use when the documents say something else.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use spectrum_common::{
    access::{action, header},
    maps::{self as names, size},
};
use spectrum_ebpf::access::entry::Entry as Word;

pub use super::access_table::EntryKey;
use super::{
    access_map::BuiltTable,
    access_table::{NoRoom, Size, Table},
    clock,
    error::Error,
    maps::Maps,
    plan::Plan,
    random,
};
use crate::config::AppId;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Block,
    Allow,
}

impl Action {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Block => action::BLOCK,
            Self::Allow => action::ALLOW,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            action::BLOCK => Some(Self::Block),
            action::ALLOW => Some(Self::Allow),
            _ => None,
        }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `spectrum.toml`, a document in `apps.d/`, or a feed.
    Document,
    /// `spectrum block` or `spectrum allow`.
    Operator,
}

/// An entry, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub action: Action,
    pub source: Source,
    /// Time since boot.
    pub added: Duration,
    /// Time since boot; `None` = never.
    pub expires: Option<Duration>,
}

impl Entry {
    /// What a word of the table says: the operator's, which hides that of the documents until it
    /// is over, and then theirs.
    fn all_of(word: Word) -> impl Iterator<Item = Self> {
        let added = Duration::from_secs(word.added_s.into());
        let entry = |number, source, expires| {
            Some(Self {
                action: Action::from_number(number)?,
                source,
                added,
                expires,
            })
        };
        let expires = (word.expires_s != 0).then(|| Duration::from_secs(word.expires_s.into()));
        let of_operator = entry(word.operator, Source::Operator, expires);
        let of_documents = entry(word.listed, Source::Document, None);
        of_operator.into_iter().chain(of_documents)
    }
}

/// Prefixes of a list, and a number that tells them from others.
#[derive(Debug, PartialEq, Eq)]
pub struct Prefixes {
    prefixes: Vec<IpNet>,
    digest: u64,
}

impl Prefixes {
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        let mut hasher = DefaultHasher::new();
        prefixes.hash(&mut hasher);
        Self {
            prefixes,
            digest: hasher.finish(),
        }
    }

    pub fn as_slice(&self) -> &[IpNet] {
        &self.prefixes
    }
}

/// A list that somebody else keeps.
#[derive(Clone, Debug)]
pub struct FeedList {
    pub action: Action,
    /// `None`: all apps.
    pub apps: Option<Vec<AppId>>,
    pub prefixes: Arc<Prefixes>,
}

/// Puts the operator's entry on a list, in place of any other of his for the same prefix.
///
/// # Errors
/// The list is full.
pub fn put(
    maps: &mut Maps,
    key: EntryKey,
    action: Action,
    lifetime: Option<Duration>,
) -> Result<(), Error> {
    let now = clock::since_boot_s();
    let expires_s = lifetime.map_or(0, |lifetime| {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        now.saturating_add(seconds.max(1))
    });
    maps.access.refresh()?;
    let table = maps.listed();
    let word = Word {
        listed: table.get(key).unwrap_or_default().listed,
        operator: action.number(),
        added_s: now,
        expires_s,
    };
    note_change(table);
    match table.put(key, word) {
        Ok(()) => {}
        Err(NoRoom) => grow(maps, key, word)?,
    }
    mark_scope(maps, key.0)?;
    super::sync::forget_verdicts(maps)
}

/// Takes the operator's entry off its list; says whether it was there.
///
/// # Errors
/// The kernel refuses.
pub fn remove(maps: &mut Maps, key: EntryKey) -> Result<bool, Error> {
    maps.access.refresh()?;
    let table = maps.listed();
    if table
        .get(key)
        .is_none_or(|word| word.operator == action::NONE)
    {
        return Ok(false);
    }
    forget(table, key);
    super::sync::forget_verdicts(maps)?;
    Ok(true)
}

/// The entry for exactly this prefix, expired or not.
pub fn get(maps: &Maps, key: EntryKey) -> Option<Entry> {
    Entry::all_of(maps.listed().get(key)?).next()
}

/// All entries, in no order.
pub fn all(maps: &Maps) -> impl Iterator<Item = (EntryKey, Entry)> + '_ {
    let words = maps.listed().entries();
    words.flat_map(|(key, word)| Entry::all_of(word).map(move |entry| (key, entry)))
}

/// What [`replace`] did and saw.
pub(super) struct Replaced {
    pub(super) replaced: bool,
    /// Scopes that have entries.
    pub(super) scopes: BTreeSet<u32>,
}

/// The table of the lists of a plan, built ahead of its use.
pub(super) struct Draft {
    digest: u64,
    table: BuiltTable,
}

impl Draft {
    /// `None` if the table in use, of this digest, is of the same lists.
    pub(super) fn new(plan: &Plan, in_use: u64) -> Result<Option<Self>, Error> {
        let digest = digest(plan);
        if digest == in_use {
            return Ok(None);
        }
        let now = clock::since_boot_s();
        let size = size_for(plan.lists.iter().flat_map(|list| list.prefixes.as_slice()))?;
        let table = built(size, digest, |table| fill(table, plan, &[], now))?;
        Ok(Some(Self { digest, table }))
    }
}

/// The digest of the lists that the table in use was built from.
pub(super) fn digest_in_use(maps: &Maps) -> u64 {
    maps.access.table().header(header::DIGEST)
}

/// Makes the lists of the documents equal to those of the plan; with `draft`, if that is of these
/// lists. Entries of the operator stay, unless they are over or their app is gone.
pub(super) fn replace(
    maps: &mut Maps,
    plan: &Plan,
    draft: Option<Draft>,
) -> Result<Replaced, Error> {
    let now = clock::since_boot_s();
    maps.access.refresh()?;
    let mut kept = Vec::new();
    for (key, word) in maps.access.of_operator() {
        if word.is_expired(now) || !(key.0 == 0 || plan.apps.contains_key(&key.0)) {
            forget(maps.access.table(), key);
        } else {
            kept.push((key, word));
        }
    }
    let scopes = plan.lists.iter().map(|list| list.scope);
    let scopes = scopes
        .chain(kept.iter().map(|((scope, _), _)| *scope))
        .collect();
    let digest = digest(plan);
    let replaced = digest_in_use(maps) != digest;
    if replaced {
        let draft = draft.filter(|draft| draft.digest == digest);
        let table = match draft {
            Some(draft) if add(draft.table.table(), &kept).is_ok() => draft.table,
            Some(_) | None => build(plan, &kept, digest, now)?,
        };
        maps.access.replace(table)?;
    }
    Ok(Replaced { replaced, scopes })
}

/// Builds the table of a plan.
fn build(
    plan: &Plan,
    kept: &[(EntryKey, Word)],
    digest: u64,
    now: u32,
) -> Result<BuiltTable, Error> {
    let prefixes = plan.lists.iter().flat_map(|list| list.prefixes.as_slice());
    let size = size_for(prefixes.chain(kept.iter().map(|((_, prefix), _)| prefix)))?;
    built(size, digest, |table| fill(table, plan, kept, now))
}

fn fill(table: Table<'_>, plan: &Plan, kept: &[(EntryKey, Word)], now: u32) -> Result<(), NoRoom> {
    for list in &plan.lists {
        let word = Word {
            listed: list.action,
            added_s: now,
            ..Word::default()
        };
        for &prefix in list.prefixes.as_slice() {
            table.build((list.scope, prefix), word)?;
        }
    }
    add(table, kept)
}

/// Adds the operator's entries to those of the documents.
fn add(table: Table<'_>, kept: &[(EntryKey, Word)]) -> Result<(), NoRoom> {
    for &(key, word) in kept {
        let listed = table.get(key).unwrap_or_default().listed;
        table.build(key, Word { listed, ..word })?;
    }
    Ok(())
}

/// The operator's entry found no place: the same entries in twice as many lines.
fn grow(maps: &mut Maps, key: EntryKey, word: Word) -> Result<(), Error> {
    let table = maps.listed();
    let entries: Vec<_> = table.entries().chain([(key, word)]).collect();
    let size = size_for(entries.iter().map(|((_, prefix), _)| prefix))?.doubled();
    let digest = table.header(header::DIGEST);
    let grown = built(size, digest, |table| {
        let mut entries = entries.iter();
        entries.try_for_each(|&(key, word)| table.build(key, word))
    })?;
    maps.access.replace(grown)
}

/// How large a table so many entries need.
fn size_for<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> Result<Size, Error> {
    let (mut v4, mut v6) = (0, 0);
    for prefix in prefixes {
        match prefix {
            IpNet::V4(_) => v4 += 1,
            IpNet::V6(_) => v6 += 1,
        }
    }
    if v4 + v6 > size::ACCESS_ENTRIES {
        return Err(full());
    }
    Ok(if v4 + v6 == 0 {
        Size::EMPTY
    } else {
        Size::of(v4, v6)
    })
}

/// A new table that `fill` has filled.
fn built(
    mut size: Size,
    digest: u64,
    fill: impl Fn(Table<'_>) -> Result<(), NoRoom>,
) -> Result<BuiltTable, Error> {
    /// That a table which is half full has no room for an entry is next to impossible, and that
    /// of one which is a quarter full is too.
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        let built = BuiltTable::start(size, random::number()?)?;
        built.table().set_header(header::DIGEST, digest);
        if fill(built.table()).is_ok() {
            return Ok(built);
        }
        size = size.doubled();
    }
    Err(full())
}

fn full() -> Error {
    Error::Full {
        map: names::ACCESS,
        capacity: size::ACCESS_ENTRIES,
        remedy: "list fewer, wider prefixes; `spectrum lists` shows which lists are long",
    }
}

/// Takes the operator's word back, and with it the entry unless a document has one too.
fn forget(table: Table<'_>, key: EntryKey) {
    let Some(word) = table.get(key) else {
        return;
    };
    note_change(table);
    if word.listed == action::NONE {
        table.remove(key);
        return;
    }
    let word = Word {
        operator: action::NONE,
        expires_s: 0,
        ..word
    };
    // It takes the place of itself.
    let _always_has_room = table.put(key, word);
}

/// Has whoever knows the operator's entries look at them again.
fn note_change(table: Table<'_>) {
    let changes = table.header(header::CHANGES);
    table.set_header(header::CHANGES, changes.wrapping_add(1));
}

/// Tells these lists in this order from all others.
fn digest(plan: &Plan) -> u64 {
    if plan.lists.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    for list in &plan.lists {
        (list.scope, list.action, list.prefixes.digest).hash(&mut hasher);
    }
    hasher.finish()
}

/// Tells the program that an app has entries of its own.
fn mark_scope(maps: &mut Maps, slot: u32) -> Result<(), Error> {
    if slot == spectrum_common::access::GLOBAL_SCOPE {
        return Ok(());
    }
    let app = maps
        .apps
        .get(&slot, 0)
        .map_err(Error::map(names::APPS, "read"))?;
    let app = spectrum_common::app::App {
        has_access_entries: 1,
        ..app
    };
    super::sync::write_app(maps, slot, app)
}
