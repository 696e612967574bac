//! Reads a TOML table field by field, and notes everything that is wrong on the way.

use std::{cell::RefCell, ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::value::{Value, closest, quoted};
use crate::config::{
    errors::{Mark, Problem},
    source::Source,
};

/// What is wrong with a value.
#[derive(Debug)]
pub(super) struct Wrong {
    what: String,
    expected: String,
    help: Option<String>,
    /// What it is at odds with, in the same document.
    beside: Option<(Range<usize>, String)>,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            expected: expected.into(),
            help: None,
            beside: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn beside(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.beside = Some((span, label.into()));
        self
    }
}

/// Collects the problems of one document.
pub(super) struct Report {
    pub(super) source: Arc<Source>,
    problems: RefCell<Vec<Problem>>,
    /// The fields that ask where a source is.
    asking: RefCell<Vec<Spanned<String>>>,
}

impl Report {
    pub(super) fn new(source: &Arc<Source>) -> Self {
        Self {
            source: Arc::clone(source),
            problems: RefCell::default(),
            asking: RefCell::default(),
        }
    }

    /// Parses the document. One with a syntax error is read no further: what a parser makes of the
    /// rest is a guess, and complaints about a guess are noise.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'_>>> {
        match DeTable::parse(&self.source.text) {
            Ok(root) => Some(root),
            Err(error) => {
                let wrong = Wrong::new(error.message(), "TOML does not allow this").help(
                    "a field is `name = value`, each name once; texts stand in quotes, \
                     lists in `[` `]`",
                );
                self.push(error.span().unwrap_or_default(), wrong);
                None
            }
        }
    }

    /// Notes that the field at `path` is wrong.
    pub(super) fn wrong(&self, path: &str, span: Range<usize>, mut wrong: Wrong) {
        wrong.what = format!("`{path}`: {}", wrong.what);
        self.push(span, wrong);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The paths of the fields that ask where a source is.
    pub(super) fn take_asking(&self) -> Vec<Spanned<String>> {
        self.asking.take()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    fn push(&self, span: Range<usize>, wrong: Wrong) {
        let mark = |(span, label)| Mark {
            place: self.source.place(span),
            label,
        };
        let marks = [Some((span, wrong.expected)), wrong.beside];
        self.problems.borrow_mut().push(Problem {
            what: wrong.what,
            marks: marks.into_iter().flatten().map(mark).collect(),
            help: wrong.help,
        });
    }
}

/// A table that is being read. What was not asked for by the time of [`Table::finish`] is unknown.
pub(super) struct Table<'a> {
    report: &'a Report,
    /// `protection.packet_rate`; empty for the root.
    path: String,
    span: Range<usize>,
    /// `None` if the table is not in the document.
    entries: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn root(report: &'a Report, root: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            report,
            path: String::new(),
            // A field that is missing is missed at the top of the document.
            span: 0..0,
            entries: Some(root.get_ref()),
            known: Vec::new(),
        }
    }

    /// The field `key`, if it is there and valid.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(Value<'a>) -> Result<T, Wrong>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        match convert(value) {
            Ok(valid) => Some(Spanned::new(value.span(), valid)),
            Err(wrong) => {
                self.wrong(key, value.span(), wrong);
                None
            }
        }
    }

    /// The same without its place, or `default` if the field is not there. (Where it is invalid
    /// the default stands in as well, so that the rest can be read; the problem is noted.)
    pub(super) fn get_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(Value<'a>) -> Result<T, Wrong>,
    ) -> T {
        self.get(key, convert).map_or(default, Spanned::into_inner)
    }

    /// A field that has to be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        convert: impl FnOnce(Value<'a>) -> Result<T, Wrong>,
    ) -> Option<Spanned<T>> {
        if self.value(key).is_none() {
            self.missing(key, example);
        }
        self.get(key, convert)
    }

    /// Notes that the field `key` is not there.
    pub(super) fn missing(&self, key: &str, example: &str) {
        let wrong = Wrong::new("missing", format!("expected `{key}` here"))
            .help(format!("for example `{example}`"));
        self.wrong(key, self.span.clone(), wrong);
    }

    /// The items of the list `key` that are valid.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(Value<'a>) -> Result<T, Wrong>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get() else {
            self.wrong(
                key,
                value.span(),
                value.expected("a list", "put the values in `[` `]`"),
            );
            return None;
        };
        let valid = items.iter().filter_map(|spanned| {
            let item = Value::new(spanned);
            convert(item)
                .map(|valid| Spanned::new(item.span(), valid))
                .map_err(|wrong| self.wrong(key, item.span(), wrong))
                .ok()
        });
        Some(Spanned::new(value.span(), valid.collect()))
    }

    /// The same for a list that must have an item; `help` says what to write.
    pub(super) fn items<T>(
        &mut self,
        key: &'static str,
        help: &str,
        convert: impl Fn(Value<'a>) -> Result<T, Wrong>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let list = self.list(key, convert)?;
        if self.is_empty_list(key) {
            let wrong = Wrong::new("the list is empty", "expected at least one item").help(help);
            self.wrong(key, list.span(), wrong);
        }
        Some(list)
    }

    /// Whether the field is a list without items.
    pub(super) fn is_empty_list(&mut self, key: &'static str) -> bool {
        let value = self.value(key).map(Value::get);
        matches!(value, Some(DeValue::Array(items)) if items.is_empty())
    }

    /// The table `key`; an empty one if it is not there.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        let value = self.value(key);
        let entries = value.and_then(|value| {
            if let DeValue::Table(entries) = value.get() {
                return Some(entries);
            }
            let help = "put its fields in `{` `}`, or below a `[header]`";
            self.wrong(key, value.span(), value.expected("a table", help));
            None
        });
        Table {
            report: self.report,
            path: self.path_of(key),
            span: value.map_or_else(|| self.span.clone(), Value::span),
            entries,
            known: Vec::new(),
        }
    }

    /// The tables of the list `key`, `[[key]]` in a document; none if it is not there.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let help = format!("write `[[{}]]` above the fields of each", self.path_of(key));
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get() else {
            self.wrong(key, value.span(), value.expected("a list of tables", help));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            let item = Value::new(item);
            if let DeValue::Table(entries) = item.get() {
                tables.push(Table {
                    report: self.report,
                    path: self.path_of(key),
                    span: item.span(),
                    entries: Some(entries),
                    known: Vec::new(),
                });
            } else {
                self.wrong(key, item.span(), item.expected("a table", help.as_str()));
            }
        }
        tables
    }

    /// The fields of the table `key`, whose names are values themselves; those that are valid.
    pub(super) fn pairs<K, T>(
        &mut self,
        key: &'static str,
        name: impl Fn(&str) -> Result<K, Wrong>,
        convert: impl Fn(Value<'a>) -> Result<T, Wrong>,
    ) -> Vec<(Spanned<K>, T)> {
        let table = self.table(key);
        let mut pairs = Vec::new();
        for (field, value) in table.entries.into_iter().flat_map(DeTable::iter) {
            let value = Value::new(value);
            let named = name(field.get_ref())
                .map(|name| Spanned::new(field.span(), name))
                .map_err(|wrong| self.wrong(key, field.span(), wrong));
            let converted = convert(value).map_err(|wrong| self.wrong(key, value.span(), wrong));
            if let (Ok(named), Ok(converted)) = (named, converted) {
                pairs.push((named, converted));
            }
        }
        pairs
    }

    /// Whether the table itself is in the document.
    pub(super) fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether all its fields are among `keys`.
    pub(super) fn has_only(&self, keys: &[&str]) -> bool {
        let mut fields = self.entries.into_iter().flat_map(DeTable::keys);
        fields.all(|key| keys.contains(&key.get_ref().as_ref()))
    }

    /// Notes that the table as a whole is wrong.
    pub(super) fn wrong_itself(&self, wrong: Wrong) {
        self.report.wrong(&self.path, self.span.clone(), wrong);
    }

    /// Whether the field is there, valid or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries
            .is_some_and(|entries| entries.contains_key(key))
    }

    /// Notes that the field `key` is wrong in a way that its value alone does not show.
    pub(super) fn wrong(&self, key: &str, span: Range<usize>, wrong: Wrong) {
        self.report.wrong(&self.path_of(key), span, wrong);
    }

    /// Notes that the field `key` asks where a source is: somebody has to know.
    pub(super) fn asks_for_place(&self, key: &str, span: Range<usize>) {
        let asking = Spanned::new(span, self.path_of(key));
        self.report.asking.borrow_mut().push(asking);
    }

    /// Notes every field that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            if self.known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let name = key.get_ref();
            let help = match closest(name, &self.known) {
                Some(known) => format!("did you mean `{known}`?"),
                None if self.path.is_empty() => {
                    format!("the fields here are {}", quoted(&self.known))
                }
                None => format!(
                    "the fields of `{}` are {}; what stands below a `[header]` belongs to it",
                    self.path,
                    quoted(&self.known)
                ),
            };
            let wrong = Wrong::new("unknown field", "not a field of this table").help(help);
            self.wrong(name, key.span(), wrong);
        }
    }

    fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries?.get(key).map(Value::new)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}
