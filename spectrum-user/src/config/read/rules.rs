//! The tables `[[protection.rules]]` of the host and of an app.

use std::{
    collections::BTreeMap,
    fmt::Display,
    ops::{Range, RangeInclusive},
};

use spectrum_common::signature::WINDOW;
use toml::Spanned;

use super::{
    places,
    protection::MAX_RATE,
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{
    Mode, PortRange, Transport,
    rule::{Action, ActionKind, Conditions, Family, Flags, Payload, Rule},
};

/// Beyond any list that a person writes, and low enough for the filter's order of rules.
const MAX_ID: u32 = 1_000_000;

const MAX_NAME: usize = 64;

/// A rule may look this far into the payload: the headers before it stay within the first buffer
/// of a frame.
const MAX_OFFSET: u16 = 1400;

/// The smallest packets that there are: IPv4 without options, and the transport's header.
const MIN_UDP_PACKET: u16 = 28;
const MIN_TCP_PACKET: u16 = 40;

/// Whose rules are read.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Host,
    /// What could be read of the app's protocol.
    App(Option<Transport>, Option<PortRange>),
}

impl Owner {
    fn transport(self) -> Option<Transport> {
        match self {
            Self::Host => None,
            Self::App(transport, _) => transport,
        }
    }
}

/// The rules, sorted by id.
pub(super) fn read(protection: &mut Table<'_>, owner: Owner) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen: BTreeMap<u32, Range<usize>> = BTreeMap::new();
    for mut table in protection.tables("rules") {
        let id = table.require("id", "id = 10", |value| value.integer(1..=MAX_ID));
        if let Some(id) = &id {
            if let Some(first) = seen.get(id.get_ref()) {
                let wrong = Wrong::new(
                    format!("two rules have the id {}", id.get_ref()),
                    "again here",
                )
                .beside(first.clone(), "first here")
                .help("rules are asked in the order of their ids: give each its own");
                table.wrong("id", id.span(), wrong);
            } else {
                seen.insert(*id.get_ref(), id.span());
            }
        }
        let rule = rule(&mut table, owner);
        table.finish();
        if let (Some(id), Some(rule)) = (id, rule) {
            let id = id.into_inner();
            rules.push(Rule { id, ..rule });
        }
    }
    rules.sort_by_key(|rule| rule.id);
    rules
}

/// A rule without its id.
fn rule(table: &mut Table<'_>, owner: Owner) -> Option<Rule> {
    let name = table.get("name", name).map(Spanned::into_inner);
    let conditions = conditions(table, owner);
    if conditions == Conditions::default()
        && table.has_only(&["id", "name", "action", "mode", "per_second", "burst"])
    {
        let wrong = Wrong::new(
            "a rule without a condition",
            "this would match every packet",
        )
        .help(
            "say what to match: `length`, `ttl`, `source_port`, `port`, `flags`, `payload`, \
             `countries`, `asns`, `family` or `transport`",
        );
        table.wrong_itself(wrong);
    }
    let action = action(table);
    let mode = table.get("mode", scalar::mode);
    if let (Some(Action::Pass), Some(mode)) = (action, &mode)
        && *mode.get_ref() == Mode::Monitor
    {
        let wrong = Wrong::new(
            "a rule that passes has nothing to monitor",
            "not for `pass`",
        )
        .help("write `\"enforce\"` or `\"off\"`");
        table.wrong("mode", mode.span(), wrong);
    }
    Some(Rule {
        id: 0,
        name,
        conditions,
        action: action?,
        mode: mode.map_or(Mode::Enforce, Spanned::into_inner),
    })
}

fn name(value: Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    if (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let expected = format!("expected 1 to {MAX_NAME} printable characters");
    Err(Wrong::new("not a name", expected).help("for example `name = \"cheat probes\"`"))
}

fn action(table: &mut Table<'_>) -> Option<Action> {
    let example = "action = \"drop\"";
    let kind = table.require("action", example, |value| value.choice(ActionKind::WORDS))?;
    let limit = |value: Value<'_>| value.integer(1..=MAX_RATE);
    let per_second = table.get("per_second", limit);
    let burst = table.get("burst", limit);
    if *kind.get_ref() == ActionKind::RateLimit {
        let Some(per_second) = per_second else {
            if !table.has("per_second") {
                table.missing("per_second", "per_second = 1000");
            }
            return None;
        };
        let per_second = per_second.into_inner();
        let default = per_second.saturating_mul(2).min(MAX_RATE);
        return Some(Action::RateLimit {
            per_second,
            burst: burst.map_or(default, Spanned::into_inner),
        });
    }
    for (field, given) in [("per_second", per_second), ("burst", burst)] {
        let Some(given) = given else { continue };
        let wrong = Wrong::new("this action has no rate", "only for `rate-limit`")
            .beside(kind.span(), "the action")
            .help("remove it, or write `action = \"rate-limit\"`");
        table.wrong(field, given.span(), wrong);
    }
    Some(match kind.into_inner() {
        ActionKind::Pass => Action::Pass,
        ActionKind::Drop | ActionKind::RateLimit => Action::Drop,
    })
}

fn conditions(table: &mut Table<'_>, owner: Owner) -> Conditions {
    let transport = match owner {
        Owner::Host => table.get("transport", |value| value.choice(Transport::WORDS)),
        Owner::App(..) => None,
    };
    let transport = transport.map(Spanned::into_inner);
    let known = transport.or(owner.transport());
    let family = table.get("family", |value| value.choice(Family::WORDS));
    let length = table.get("length", |value| range(value, 1..=u16::MAX));
    if let Some(length) = &length {
        check_length(table, length, known);
    }
    let ttl = table.get("ttl", |value| range(value, 0..=u8::MAX));
    let source_port = table.get("source_port", |value| range(value, 0..=u16::MAX));
    let port = table.get("port", |value| range(value, 1..=u16::MAX));
    if let (Some(port), Owner::App(_, Some(own))) = (&port, owner) {
        check_port(table, port, own);
    }
    let flags = flags(table, known);
    let payload = payload(table);
    let countries = places::condition(table, "countries", places::country);
    let asns = places::condition(table, "asns", places::asn);
    if let (Some(payload), Some(length)) = (&payload, &length) {
        check_payload(table, payload, length, known);
    }
    Conditions {
        transport,
        family: family.map(Spanned::into_inner),
        length: length.map(Spanned::into_inner),
        ttl: ttl.map(Spanned::into_inner),
        source_port: source_port.map(Spanned::into_inner),
        port: port.map(Spanned::into_inner),
        flags,
        payload: payload.map(Spanned::into_inner),
        countries,
        asns,
    }
}

/// A number, or the first and the last of a range: `48` or `"40-64"`.
fn range<T>(value: Value<'_>, bounds: RangeInclusive<T>) -> Result<RangeInclusive<T>, Wrong>
where
    T: Copy + PartialOrd + Display + TryFrom<i128> + std::str::FromStr,
{
    let (min, max) = (bounds.start(), bounds.end());
    let help = format!("write a number from {min} to {max}, or a range such as `\"{min}-{max}\"`");
    let Ok(text) = value.text() else {
        let number = value
            .integer(*min..=*max)
            .map_err(|wrong| wrong.help(help))?;
        return Ok(number..=number);
    };
    // `parse` would take a sign.
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.split_once('-').and_then(|(first, last)| {
        let number = |text: &str| digits(text).then(|| text.parse::<T>().ok()).flatten();
        Some((number(first)?, number(last)?))
    });
    match parsed {
        Some((first, last)) if first > last => {
            let expected = "expected the lower number first";
            let help = format!("write `\"{last}-{first}\"`");
            Err(Wrong::new("the range is reversed", expected).help(help))
        }
        Some((first, last)) if bounds.contains(&first) && bounds.contains(&last) => {
            Ok(first..=last)
        }
        Some(_) | None => {
            let expected = format!("expected numbers from {min} to {max}");
            Err(Wrong::new(format!("`{text}` is no such range"), expected).help(help))
        }
    }
}

/// A packet is at least as long as its headers.
fn check_length(
    table: &Table<'_>,
    length: &Spanned<RangeInclusive<u16>>,
    transport: Option<Transport>,
) {
    let least = least_length(transport);
    if *length.get_ref().end() < least {
        let what = format!("no packet is shorter than {least} bytes");
        let wrong = Wrong::new(what, "this never matches").help(
            "count the whole IP packet: 20 bytes for IPv4 or 40 for IPv6, 8 for UDP or at least 20 \
             for TCP, and the payload",
        );
        table.wrong("length", length.span(), wrong);
    }
}

fn least_length(transport: Option<Transport>) -> u16 {
    match transport {
        Some(Transport::Tcp) => MIN_TCP_PACKET,
        Some(Transport::Udp) | None => MIN_UDP_PACKET,
    }
}

fn check_port(table: &Table<'_>, port: &Spanned<RangeInclusive<u16>>, own: PortRange) {
    let (first, last) = (*port.get_ref().start(), *port.get_ref().end());
    if !own.overlaps(PortRange { first, last }) {
        let what = format!("the app has the ports {own}");
        let wrong = Wrong::new(what, "this never matches")
            .help("name ports of the app, or remove the condition");
        table.wrong("port", port.span(), wrong);
    }
}

fn check_payload(
    table: &Table<'_>,
    payload: &Spanned<Payload>,
    length: &Spanned<RangeInclusive<u16>>,
    transport: Option<Transport>,
) {
    let Payload { offset, bytes } = payload.get_ref();
    let end = usize::from(*offset) + bytes.len();
    let most = length
        .get_ref()
        .end()
        .saturating_sub(least_length(transport));
    if end > usize::from(most) && *length.get_ref().end() >= least_length(transport) {
        let what = format!("a packet of this length has no {end} bytes of payload");
        let wrong = Wrong::new(what, "this never matches")
            .beside(length.span(), "the length of the whole packet")
            .help("count the headers too: at least 28 bytes for UDP, 40 for TCP");
        table.wrong("payload", payload.span(), wrong);
    }
}

/// `["syn", "!ack"]`.
fn flags(table: &mut Table<'_>, transport: Option<Transport>) -> Option<Flags> {
    const KEY: &str = "flags";
    let help = "for example `flags = [\"syn\", \"!ack\"]`";
    let listed = table.items(KEY, help, |value| flag(value.text()?))?;
    if transport == Some(Transport::Udp) {
        let wrong = Wrong::new("UDP has no flags", "only for TCP").help("remove it");
        table.wrong(KEY, listed.span(), wrong);
    }
    let mut flags = Flags::default();
    for item in listed.into_inner() {
        let span = item.span();
        let Flags { set, clear } = item.into_inner();
        flags.set |= set;
        flags.clear |= clear;
        if flags.set & flags.clear != 0 {
            let wrong = Wrong::new("a flag is both set and not", "this contradicts the others")
                .help("name each flag once, with or without `!`");
            table.wrong(KEY, span, wrong);
            return None;
        }
    }
    Some(flags)
}

fn flag(text: &str) -> Result<Flags, Wrong> {
    let (name, is_clear) = match text.strip_prefix('!') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let bit = Flags::NAMES.iter().position(|known| *known == name);
    let Some(bit) = bit else {
        let help = format!(
            "the flags are {}",
            Flags::NAMES.map(|name| format!("`{name}`")).join(", ")
        );
        return Err(Wrong::new(format!("`{text}` is no TCP flag"), "expected a flag").help(help));
    };
    let bits = 1 << bit;
    Ok(if is_clear {
        Flags {
            set: 0,
            clear: bits,
        }
    } else {
        Flags {
            set: bits,
            clear: 0,
        }
    })
}

/// `{ offset = 4, hex = "ffffffff54" }`, or `text` instead of `hex`.
fn payload(table: &mut Table<'_>) -> Option<Spanned<Payload>> {
    const KEY: &str = "payload";
    let span = table.get(KEY, |value| Ok(value.span()))?.into_inner();
    let mut payload = table.table(KEY);
    let offset = payload.get_or("offset", 0, |value| value.integer(0..=MAX_OFFSET));
    let example = "payload = { offset = 0, hex = \"ffffffff54\" }";
    let bytes = scalar::bytes(&mut payload, example, bytes);
    payload.finish();
    Some(Spanned::new(
        span,
        Payload {
            offset,
            bytes: bytes?,
        },
    ))
}

fn bytes(bytes: Vec<u8>) -> Result<Vec<u8>, Wrong> {
    if (1..=WINDOW).contains(&bytes.len()) {
        return Ok(bytes);
    }
    Err(Wrong::new(
        format!("{} bytes", bytes.len()),
        format!("expected 1 to {WINDOW} bytes"),
    )
    .help("pick the bytes that tell these packets from others, and name their `offset`"))
}
