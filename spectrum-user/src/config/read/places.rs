//! The table `[geo]` of the host, and what apps and rules ask of countries and systems.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{Spanned, de::DeValue};

use super::{
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::{
    config::{Admission, Geo, Mode},
    geo::Country,
};

const MIN_REFRESH: Duration = Duration::from_secs(1);
const MAX_REFRESH: Duration = Duration::from_hours(30 * 24);

const DATABASES: &str = "databases = [\"/usr/share/tor/geoip\", \"/usr/share/tor/geoip6\"]";

/// What to do where something asks, and there is no database.
pub(crate) fn no_database() -> String {
    format!(
        "name the databases in `spectrum.toml`: in a table `[geo]`, for example `{DATABASES}` \
         (Debian's package tor-geoipdb), or files in MaxMind's format (`.mmdb`)"
    )
}

/// Reads `[geo]`; relative paths are relative to `directory`. Says whether any database is named,
/// rightly or not.
pub(super) fn geo(root: &mut Table<'_>, directory: &Path) -> (Geo, bool) {
    let mut table = root.table("geo");
    let help = "name files, or remove this field";
    let databases =
        table.items("databases", help, |value| match value.text()? {
            "" => Err(Wrong::new("empty path", "expected a path")
                .help(format!("for example `{DATABASES}`"))),
            text => Ok(directory.join(text)),
        });
    let mut files: Vec<Spanned<PathBuf>> = Vec::new();
    for file in databases.map_or_else(Vec::new, Spanned::into_inner) {
        match files.iter().find(|known| known.get_ref() == file.get_ref()) {
            None => files.push(file),
            Some(first) => {
                let what = format!("`{}` is named twice", file.get_ref().display());
                let wrong = Wrong::new(what, "again here")
                    .beside(first.span(), "first here")
                    .help("remove one of them");
                table.wrong("databases", file.span(), wrong);
            }
        }
    }
    let refresh = table.get_or("refresh", Geo::REFRESH, |value| {
        scalar::duration(value, MIN_REFRESH..=MAX_REFRESH)
    });
    let is_given = table.has("databases");
    table.finish();
    let geo = Geo {
        databases: files.into_iter().map(Spanned::into_inner).collect(),
        refresh,
    };
    (geo, is_given)
}

/// Reads the table `key` of an app's protection: who may come.
pub(super) fn admission<T: Copy + Ord + Display>(
    protection: &mut Table<'_>,
    key: &'static str,
    convert: fn(Value<'_>) -> Result<T, Wrong>,
) -> Admission<T> {
    let given = protection.get(key, |value| Ok(value.span()));
    let mut table = protection.table(key);
    let mut list = |name| {
        let help = format!("to have no such list, remove `{name}`");
        let listed = table.items(name, &help, convert);
        sorted(listed.map_or_else(Vec::new, Spanned::into_inner))
    };
    let (allow, block) = (list("allow"), list("block"));
    for allowed in &allow {
        if let Some(blocked) = block
            .iter()
            .find(|other| other.get_ref() == allowed.get_ref())
        {
            let what = format!("`{}` is on both lists", allowed.get_ref());
            let wrong = Wrong::new(what, "allowed here")
                .beside(blocked.span(), "blocked here")
                .help("remove it from one of them");
            table.wrong("allow", allowed.span(), wrong);
        }
    }
    let mode = table.get("mode", scalar::mode);
    let has_list = table.has("allow") || table.has("block");
    if let Some(mode) = &mode
        && *mode.get_ref() != Mode::Off
        && !has_list
    {
        let wrong = Wrong::new("there is no list", "expected `allow` or `block` beside it")
            .help(format!("say who may come, for example `{}`", example(key)));
        table.wrong("mode", mode.span(), wrong);
    }
    let default = if has_list { Mode::Enforce } else { Mode::Off };
    let mode = mode.map_or(default, Spanned::into_inner);
    table.finish();
    if let Some(given) = given.filter(|_| mode != Mode::Off) {
        protection.asks_for_place(key, given.into_inner());
    }
    let plain = |list: Vec<Spanned<T>>| list.into_iter().map(Spanned::into_inner).collect();
    Admission {
        mode,
        allow: plain(allow),
        block: plain(block),
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "countries" => "allow = [\"DE\", \"AT\"]",
        _ => "block = [\"AS64496\"]",
    }
}

/// Each once.
fn sorted<T: Copy + Ord>(mut list: Vec<Spanned<T>>) -> Vec<Spanned<T>> {
    list.sort_by_key(|item| *item.get_ref());
    list.dedup_by_key(|item| *item.get_ref());
    list
}

/// The list `key` of a rule's conditions.
pub(super) fn condition<T: Copy + Ord>(
    rule: &mut Table<'_>,
    key: &'static str,
    convert: fn(Value<'_>) -> Result<T, Wrong>,
) -> Vec<T> {
    let help = "to match sources anywhere, remove this field";
    let Some(listed) = rule.items(key, help, convert) else {
        return Vec::new();
    };
    rule.asks_for_place(key, listed.span());
    let listed = sorted(listed.into_inner()).into_iter();
    listed.map(Spanned::into_inner).collect()
}

/// `"DE"`.
pub(super) fn country(value: Value<'_>) -> Result<Country, Wrong> {
    let text = value.text()?;
    if let Some(country) = Country::parse(text).filter(|_| text.bytes().all(|b| b != b'?'))
        && country.is_assigned()
    {
        return Ok(country);
    }
    let general = "the codes are those of ISO 3166-1: two capital letters, as in `\"DE\"`; `\"XX\"` \
                   stands for addresses that no database knows";
    let similar: Vec<String> = Country::similar(text)
        .map(|code| format!("`{code}`"))
        .collect();
    Err(Wrong::new(
        format!("`{text}` is no country"),
        "expected a country's code",
    )
    .help(match (text, similar.as_slice()) {
        ("UK", _) => format!("did you mean `GB`? {general}"),
        (_, []) => general.to_owned(),
        (_, similar) => format!("did you mean {}? {general}", similar.join(" or ")),
    }))
}

/// `"AS64496"` or `64496`.
pub(super) fn asn(value: Value<'_>) -> Result<u32, Wrong> {
    const HELP: &str =
        "write `\"AS64496\"` or `64496`; 0 stands for addresses that no database knows";
    if let DeValue::Integer(_) = value.get() {
        let number = value.integer(0..=u32::MAX);
        return number.map_err(|wrong| wrong.help(HELP));
    }
    let DeValue::String(text) = value.get() else {
        return Err(value.expected("a number or a string", HELP));
    };
    let digits = text.strip_prefix("AS").unwrap_or(text);
    // `parse` would take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| {
        let expected = "expected the number of an autonomous system";
        Wrong::new(format!("`{text}` is no ASN"), expected).help(HELP)
    })
}
