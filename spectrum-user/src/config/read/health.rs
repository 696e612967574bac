//! The table `health`.

use std::{ops::RangeInclusive, time::Duration};

use toml::Spanned;

use super::{
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{Check, CheckKind, Exchange, Health};

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const RISE: u32 = 2;
const FALL: u32 = 3;

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_hours(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
const MOST_IN_A_ROW: u32 = 100;
/// A datagram of this size needs no fragments on any path.
const MOST_BYTES: usize = 1200;

/// The fields that a kind of check has for itself.
const EXCHANGE: [&str; 2] = ["send", "expect"];
const HTTP: [&str; 3] = ["path", "host", "status"];

/// The checks of the app called `name`; `None` if there are none.
pub(super) fn read(root: &mut Table<'_>, name: Option<&str>) -> Option<Health> {
    let mut table = root.table("health");
    let kind = if table.is_there() {
        table.require("check", "check = \"tcp\"", |value| {
            value.choice(CheckKind::WORDS)
        })
    } else {
        None
    };
    let kind = kind.map_or(CheckKind::Off, Spanned::into_inner);
    refuse_fields_of_others(&mut table, kind);
    let exchange = exchange(&mut table);
    let http = http(&mut table, name);
    if kind == CheckKind::Udp && table.is_there() && !table.has("send") {
        table.missing("send", "send = { hex = \"ffffffff54\" }");
    }
    let port = table.get("port", |value| value.integer(1..=u16::MAX));
    let interval = table.get_or("interval", INTERVAL, |value| {
        scalar::duration(value, MIN_INTERVAL..=MAX_INTERVAL)
    });
    let timeout = table.get_or("timeout", TIMEOUT, |value| {
        scalar::duration(value, MIN_TIMEOUT..=MAX_TIMEOUT)
    });
    let in_a_row = |value: Value<'_>| value.integer(1..=MOST_IN_A_ROW);
    let rise = table.get_or("rise", RISE, in_a_row);
    let fall = table.get_or("fall", FALL, in_a_row);
    table.finish();
    let check = match kind {
        CheckKind::Off => return None,
        CheckKind::Tcp => Check::Tcp(exchange),
        CheckKind::Udp => Check::Udp(exchange),
        CheckKind::Http => http,
    };
    Some(Health {
        check,
        port: port.map(Spanned::into_inner),
        interval,
        timeout,
        rise,
        fall,
    })
}

fn refuse_fields_of_others(table: &mut Table<'_>, kind: CheckKind) {
    let (keys, of): (&[&'static str], _) = match kind {
        // Kept for the day on which the check is turned on again.
        CheckKind::Off => return,
        CheckKind::Http => (&EXCHANGE, "`tcp` and `udp`"),
        CheckKind::Tcp | CheckKind::Udp => (&HTTP, "`http`"),
    };
    for &key in keys {
        if let Some(span) = table.get(key, |value| Ok(value.span())) {
            let wrong = Wrong::new(format!("`{kind}` checks have none"), "without effect")
                .help(format!("it goes with {of}; remove it, or change `check`"));
            table.wrong(key, span.into_inner(), wrong);
        }
    }
}

fn exchange(table: &mut Table<'_>) -> Exchange {
    let mut bytes = |key| {
        let mut bytes = table.table(key);
        let example = format!("{key} = {{ text = \"PING\\r\\n\" }}");
        let read = scalar::bytes(&mut bytes, &example, |bytes| {
            if (1..=MOST_BYTES).contains(&bytes.len()) {
                return Ok(bytes);
            }
            Err(Wrong::new(
                format!("{} bytes", bytes.len()),
                format!("expected 1 to {MOST_BYTES} bytes"),
            )
            .help(format!("for example `{example}`")))
        });
        bytes.finish();
        read.unwrap_or_default()
    };
    let (send, expect) = (bytes(EXCHANGE[0]), bytes(EXCHANGE[1]));
    Exchange { send, expect }
}

fn http(table: &mut Table<'_>, name: Option<&str>) -> Check {
    let path = table.get_or("path", "/".to_owned(), |value| {
        let text = value.text()?;
        if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(text.to_owned());
        }
        Err(Wrong::new(
            format!("`{text}` is no path"),
            "expected a path that begins with `/`, without spaces",
        )
        .help("for example `path = \"/healthz\"`"))
    });
    let host = table.get("host", |value| super::app::host_name(value.text()?));
    let host = host.map(Spanned::into_inner);
    let status = table.get_or("status", 200..=399, |value| status(value.text()?));
    Check::Http {
        path,
        host: host.unwrap_or_else(|| name.unwrap_or_default().to_owned()),
        status,
    }
}

/// `200`, or `200-399`.
fn status(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let code = |text: &str| {
        let code = text.parse::<u16>().ok();
        code.filter(|code| text.len() == 3 && (100..600).contains(code))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Wrong::new(
            format!("`{text}` is no range of HTTP statuses"),
            "expected numbers from 100 to 599",
        )
        .help("for example `status = \"200\"` or `status = \"200-399\"`")),
    }
}
