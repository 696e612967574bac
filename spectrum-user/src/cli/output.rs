//! How commands print: tables and numbers for people, JSON for programs.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::Output;

/// Prints a text to stdout, without blanks at the end of lines and with a newline at its own.
///
/// # Errors
/// Stdout is closed.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in text.trim_end().lines() {
        writeln!(stdout, "{}", line.trim_end())?;
    }
    stdout.flush()
}

/// Prints a value as indented JSON.
///
/// # Errors
/// Stdout is closed.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&serde_json::to_string_pretty(value)?)?)
}

/// Prints a value in the format that was asked for.
///
/// # Errors
/// Stdout is closed.
pub fn print_as(
    format: Output,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<ExitCode> {
    match format {
        Output::Text => print(&text())?,
        Output::Json => print_json(value)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A table with lines between the rows, as wide as the terminal at the most.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headers);
    table
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `999 B`, `1.5 KiB`, `12.0 GiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut tenths = u128::from(number) * 10 / 1024;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = larger;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `2026-03-01 12:00:00 UTC`.
pub fn time(time: Timestamp) -> String {
    time.strftime("%F %T UTC").to_string()
}

/// The same, or a dash.
pub fn time_or_none(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "–".to_owned(), time)
}

/// `350ms`, `10s`, `2h 5m`: the two largest units.
pub fn duration(duration: Duration) -> String {
    let whole = if duration < Duration::from_secs(1) {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(duration.as_secs())
    };
    let text = humantime::format_duration(whole).to_string();
    let units: Vec<&str> = text.split(' ').take(2).collect();
    units.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), expected);
        }
        for (number, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 30) * 12, "12.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        for (milliseconds, expected) in [
            (0, "0s"),
            (350, "350ms"),
            (10_999, "10s"),
            (7_500_000, "2h 5m"),
            (90_061_000, "1day 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
