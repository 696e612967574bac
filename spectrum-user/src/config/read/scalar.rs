//! Single values that more than one table uses.

use std::{ops::RangeInclusive, time::Duration};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{Mode, PrefixError, parse_prefix};

pub(super) fn mode(value: Value<'_>) -> Result<Mode, Wrong> {
    value.choice(Mode::WORDS)
}

/// `"90s"`, `"1h 30m"`.
pub(super) fn duration(
    value: Value<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Wrong> {
    const EXAMPLE: &str = "for example `\"10s\"`, `\"5m\"` or `\"1h 30m\"`";
    let text = value
        .text()
        .map_err(|wrong| wrong.help(format!("a duration has a unit: {EXAMPLE}")))?;
    let duration = humantime::parse_duration(text).map_err(|error| {
        Wrong::new(
            format!("`{text}` is no duration: {error}"),
            "expected a number with a unit",
        )
        .help(EXAMPLE)
    })?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [min, max] = [range.start(), range.end()].map(|limit| humantime::format_duration(*limit));
    Err(Wrong::new(
        format!("`{text}` is out of range"),
        format!("expected {min} to {max}"),
    )
    .help(format!("write a duration from {min} to {max}")))
}

/// Bytes per second: `"10MB"`, `"1.5GiB"`, `"100Mbit"`, or a number of bytes.
pub(super) fn byte_rate(value: Value<'_>, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    let Ok(text) = value.text() else {
        return value.integer(range);
    };
    const HELP: &str = "for example `\"10MB\"` or `\"100Mbit\"`; the units are B, kB, MB, GB, \
                        KiB, MiB, GiB, kbit, Mbit and Gbit";
    let Some(rate) = parse_byte_rate(text) else {
        return Err(Wrong::new(
            format!("`{text}` is no rate"),
            "expected a number with a unit",
        )
        .help(HELP));
    };
    if range.contains(&rate) {
        return Ok(rate);
    }
    let [min, max] = [range.start(), range.end()];
    Err(Wrong::new(
        format!("`{text}` is out of range"),
        format!("expected {min} to {max} bytes per second"),
    )
    .help(HELP))
}

fn parse_byte_rate(text: &str) -> Option<u64> {
    /// With how many bytes eight of each are.
    const UNITS: [(&str, u128); 10] = [
        ("B", 8),
        ("kB", 8_000),
        ("MB", 8_000_000),
        ("GB", 8_000_000_000),
        ("KiB", 8 << 10),
        ("MiB", 8 << 20),
        ("GiB", 8 << 30),
        ("kbit", 1_000),
        ("Mbit", 1_000_000),
        ("Gbit", 1_000_000_000),
    ];
    let is_number = |char: char| char.is_ascii_digit() || matches!(char, '.' | '_');
    let (number, unit) = text.split_at(text.find(|char| !is_number(char))?);
    let (_, eight) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    // More digits say nothing, and fewer keep the sum within its type.
    if whole.len() > 15 || fraction.len() > 9 {
        return None;
    }
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let number = whole.parse::<u128>().ok()? * divisor + fraction.parse::<u128>().ok()?;
    u64::try_from(number * eight / divisor / 8).ok()
}

/// The bytes that `table` has as `hex` or as `text`, if it is there; `bound` says whether they will
/// do.
pub(super) fn bytes(
    table: &mut Table<'_>,
    example: &str,
    bound: impl Fn(Vec<u8>) -> Result<Vec<u8>, Wrong>,
) -> Option<Vec<u8>> {
    let hex = table.get("hex", |value| bound(hex(value.text()?)?));
    let text = table.get("text", |value| bound(value.text()?.as_bytes().to_vec()));
    if let (Some(hex), Some(text)) = (&hex, &text) {
        let wrong = Wrong::new("both `hex` and `text`", "the same bytes a second time")
            .beside(hex.span(), "first here")
            .help("remove one of them");
        table.wrong("text", text.span(), wrong);
    }
    if !table.has("hex") && !table.has("text") && table.is_there() {
        table.missing("hex", example);
    }
    Some(hex.or(text)?.into_inner())
}

fn hex(text: &str) -> Result<Vec<u8>, Wrong> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|char| *char != ' ')
        .map_while(|char| char.to_digit(16))
        .collect();
    let given = text.chars().filter(|char| *char != ' ').count();
    if digits.len() != given || !given.is_multiple_of(2) {
        return Err(Wrong::new(
            format!("`{text}` is no sequence of bytes"),
            "expected two hex digits for each byte",
        )
        .help("for example `hex = \"ff ff ff ff 54\"`"));
    }
    let pairs = digits.chunks_exact(2);
    let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    let bytes = pairs.filter_map(|pair| u8::try_from(byte(pair)).ok());
    Ok(bytes.collect())
}

/// The lists `block` and `allow`, each sorted and without repetition, so that equal lists are
/// equal. A prefix on both is a contradiction; one within the other is not.
pub(super) fn access_lists(table: &mut Table<'_>) -> (Vec<IpNet>, Vec<IpNet>) {
    let mut list = |key| {
        let listed = table.list(key, |value| prefix(value.text()?));
        let mut prefixes = listed.map_or_else(Vec::new, Spanned::into_inner);
        prefixes.sort_by_key(|prefix| *prefix.get_ref());
        prefixes.dedup_by_key(|prefix| *prefix.get_ref());
        prefixes
    };
    let (block, allow) = (list("block"), list("allow"));
    for allowed in &allow {
        let same = block.binary_search_by_key(allowed.get_ref(), |blocked| *blocked.get_ref());
        if let Some(blocked) = same.ok().and_then(|index| block.get(index)) {
            let what = format!("`{}` is on both lists", allowed.get_ref());
            let wrong = Wrong::new(what, "allowed here")
                .beside(blocked.span(), "blocked here")
                .help("remove it from one of them");
            table.wrong("allow", allowed.span(), wrong);
        }
    }
    let plain = |list: Vec<Spanned<IpNet>>| list.into_iter().map(Spanned::into_inner).collect();
    (plain(block), plain(allow))
}

fn prefix(text: &str) -> Result<IpNet, Wrong> {
    parse_prefix(text).map_err(|error| match error {
        PrefixError::Syntax(_) => Wrong::new(
            format!("`{text}` is no prefix"),
            "expected an address or a prefix",
        )
        .help("for example `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`"),
        PrefixError::HostBits { network, .. } => Wrong::new(
            format!("`{text}` has bits set beyond its length"),
            "expected the address of the network",
        )
        .help(format!(
            "write `{network}`, or the address alone for a single host"
        )),
        PrefixError::Mapped { plain, .. } => Wrong::new(
            format!("`{text}` is IPv4 written as IPv6"),
            "expected IPv4 as IPv4",
        )
        .help(format!("write `{plain}`")),
    })
}
