//! One value of a TOML document, and what it may turn out to be.

use std::{
    fmt::Display,
    ops::{Range, RangeInclusive},
};

use toml::{Spanned, de::DeValue};

use super::table::Wrong;

const TIMESTAMP_HELP: &str = "write date, time and offset (RFC 3339), as in `2026-01-31T12:00:00Z`";

/// A value of any type.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    spanned: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn new(spanned: &'a Spanned<DeValue<'a>>) -> Self {
        Self { spanned }
    }

    pub(super) fn get(self) -> &'a DeValue<'a> {
        self.spanned.get_ref()
    }

    pub(super) fn span(self) -> Range<usize> {
        self.spanned.span()
    }

    pub(super) fn text(self) -> Result<&'a str, Wrong> {
        if let DeValue::String(text) = self.get() {
            return Ok(text);
        }
        Err(self.expected("a string", "put the value in quotes"))
    }

    pub(super) fn boolean(self) -> Result<bool, Wrong> {
        if let DeValue::Boolean(boolean) = self.get() {
            return Ok(*boolean);
        }
        Err(self.expected("a boolean", "write `true` or `false`, without quotes"))
    }

    pub(super) fn integer<T>(self, range: RangeInclusive<T>) -> Result<T, Wrong>
    where
        T: PartialOrd + Display + TryFrom<i128>,
    {
        let (min, max) = (range.start(), range.end());
        let help = format!("write a number from {min} to {max}");
        let DeValue::Integer(integer) = self.get() else {
            return Err(self.expected("an integer", help));
        };
        i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let expected = format!("expected {min} to {max}");
                Wrong::new(format!("{integer} is out of range"), expected).help(help)
            })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&'static str, T)]) -> Result<T, Wrong> {
        let words: Vec<&'static str> = choices.iter().map(|&(word, _)| word).collect();
        let help = format!("write one of {}", quoted(&words));
        let DeValue::String(text) = self.get() else {
            return Err(self.expected("a string", help));
        };
        if let Some(&(_, choice)) = choices.iter().find(|(word, _)| text == word) {
            return Ok(choice);
        }
        let wrong = Wrong::new(
            format!("`{text}` is no choice"),
            "not one of the words known here",
        );
        Err(wrong.help(match closest(text, &words) {
            Some(word) => format!("did you mean `{word}`? Otherwise {help}"),
            None => help,
        }))
    }

    /// An RFC 3339 timestamp, as a string or as TOML's own type.
    pub(super) fn timestamp(self) -> Result<(), Wrong> {
        let text = if let DeValue::Datetime(datetime) = self.get() {
            datetime.to_string()
        } else {
            self.text()?.to_owned()
        };
        match text.parse::<jiff::Timestamp>() {
            Ok(_) => Ok(()),
            Err(error) => Err(Wrong::new(
                format!("`{text}` is no timestamp: {error}"),
                "expected a date and time with offset",
            )
            .help(TIMESTAMP_HELP)),
        }
    }

    /// That the value is of another type.
    pub(super) fn expected(self, expected: &str, help: impl Into<String>) -> Wrong {
        let found = match self.get() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a timestamp",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        Wrong::new(format!("expected {expected}"), format!("this is {found}")).help(help)
    }
}

/// The word that `text` was probably meant to be.
pub(super) fn closest(text: &str, words: &[&'static str]) -> Option<&'static str> {
    /// Below it, "did you mean" guesses wildly. Found by trying typical slips.
    const SIMILAR: f64 = 0.8;
    let lower = text.to_lowercase();
    words
        .iter()
        .map(|word| (strsim::jaro_winkler(&lower, word), *word))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

pub(super) fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
