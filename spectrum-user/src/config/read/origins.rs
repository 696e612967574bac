//! The origins of an app: `origin_direct`, and the table `origins` that says who gets what.

use std::{ops::Range, time::Duration};

use toml::Spanned;

use super::{
    address::{self, Protocol},
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{Balance, EdgeIps, Member, Origin, Origins};

const DIRECT: &str = "origin_direct";
const EXAMPLE: &str = "origin_direct = [\"tcp://192.0.2.1:22\"]";

const MAX_WEIGHT: u16 = 256;
const MAX_RETRIES: u32 = 63;
const MAX_SLOW_START: Duration = Duration::from_hours(1);

pub(super) fn read(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
) -> Origins {
    let listed = direct(root, protocol, edge_ips);
    refuse_names(root);
    let smart = root.get("argo_smart_routing", Value::boolean);

    let mut table = root.table("origins");
    let read = |text: &str| address::origin(text, protocol, edge_ips);
    let weights = table.pairs("weights", read, |value| value.integer(1..=MAX_WEIGHT));
    let mut named = |key: &'static str, help: &str| {
        let list = table.items(key, help, |value| read(value.text()?));
        list.map_or_else(Vec::new, Spanned::into_inner)
    };
    let backup = named("backup", "without backups, remove this field");
    let maintenance = named("maintenance", "without maintenance, remove this field");
    let balance = balance(&mut table, smart.as_ref());
    let retries = table.get_or("retries", Origins::RETRIES, |value| {
        value.integer(0..=MAX_RETRIES)
    });
    let slow_start = table.get_or("slow_start", Duration::ZERO, |value| {
        scalar::duration(value, Duration::ZERO..=MAX_SLOW_START)
    });

    let mut members: Vec<Member> = listed.iter().copied().map(Member::from).collect();
    for (origin, weight) in &weights {
        if let Some(member) = member(&table, "weights", &mut members, origin) {
            member.weight = *weight;
        }
    }
    for origin in &maintenance {
        if let Some(member) = member(&table, "maintenance", &mut members, origin) {
            member.maintenance = true;
        }
    }
    for origin in &backup {
        if let Some(member) = member(&table, "backup", &mut members, origin) {
            member.backup = true;
        }
    }
    if let Some(last) = backup.last()
        && members.iter().all(|member| member.backup)
    {
        let wrong = Wrong::new("every origin is a backup", "and this as well")
            .help("leave out the origins that get connections on a good day");
        table.wrong("backup", last.span(), wrong);
    }
    table.finish();
    Origins {
        members,
        balance,
        retries,
        slow_start,
    }
}

/// `origin_direct`.
fn direct(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
) -> Vec<Origin> {
    let example = format!("for example `{EXAMPLE}`");
    let listed = root.items(DIRECT, &example, |value| {
        address::origin(value.text()?, protocol, edge_ips)
    });
    let Some(listed) = listed else {
        if !root.has(DIRECT) && !root.has("origin_dns") {
            root.missing(DIRECT, EXAMPLE);
        }
        return Vec::new();
    };
    let span = listed.span();
    let origins = distinct(root, listed.into_inner());
    if origins.len() > Origins::MAX {
        let wrong = Wrong::new(
            format!("{} origins", origins.len()),
            format!("expected at most {}", Origins::MAX),
        )
        .help("divide them among several apps, or put a load balancer before them");
        root.wrong(DIRECT, span, wrong);
    }
    origins
}

/// The same origin twice would get twice its share, and be retried when it has just failed.
fn distinct(root: &Table<'_>, listed: Vec<Spanned<Origin>>) -> Vec<Origin> {
    let mut origins: Vec<Spanned<Origin>> = Vec::new();
    for origin in listed {
        match origins
            .iter()
            .find(|known| known.get_ref() == origin.get_ref())
        {
            None => origins.push(origin),
            Some(first) => {
                let wrong = Wrong::new("the same origin twice", "again here")
                    .beside(first.span(), "first here")
                    .help("remove one of them");
                root.wrong(DIRECT, origin.span(), wrong);
            }
        }
    }
    origins.into_iter().map(Spanned::into_inner).collect()
}

/// `origin_dns` and its port, which the format knows and this version does not serve.
fn refuse_names(root: &mut Table<'_>) {
    let dns = root.get("origin_dns", |value| Ok(value.span()));
    let port = root.get("origin_port", |value| Ok(value.span()));
    match &dns {
        Some(dns) if root.has(DIRECT) => {
            let wrong = Wrong::new("an app has either this or `origin_direct`", "one too many")
                .help("remove one of them");
            root.wrong("origin_dns", dns.span(), wrong);
        }
        Some(dns) => {
            let wrong = Wrong::new(
                "names of origins are not resolved yet",
                "not served by this version",
            )
            .help(format!(
                "give the addresses instead, for example `{EXAMPLE}`"
            ));
            root.wrong("origin_dns", dns.span(), wrong);
        }
        None => {}
    }
    if let Some(port) = port
        && dns.is_none()
    {
        let wrong = Wrong::new("goes with `origin_dns` only", "no place for a port")
            .help("write the port into `origin_direct`, for example `tcp://192.0.2.1:22`");
        root.wrong("origin_port", port.span(), wrong);
    }
}

/// `balance`, of which `argo_smart_routing = true` is another way to say one.
fn balance(table: &mut Table<'_>, smart: Option<&Spanned<bool>>) -> Balance {
    let given = table.get("balance", |value| value.choice(Balance::WORDS));
    let is_smart = smart.filter(|smart| *smart.get_ref()).map(Spanned::span);
    match (given, is_smart) {
        (None, None) => Balance::RoundRobin,
        (None, Some(_)) => Balance::LowestLatency,
        (Some(given), smart) => {
            let balance = *given.get_ref();
            if let Some(smart) = smart.filter(|_| balance != Balance::LowestLatency) {
                let wrong = Wrong::new(
                    "`argo_smart_routing` asks for `lowest-latency`",
                    "and this for something else",
                )
                .beside(smart, "because of this")
                .help("remove one of them");
                table.wrong("balance", given.span(), wrong);
            }
            balance
        }
    }
}

/// The origin that a field of the table names.
fn member<'m>(
    table: &Table<'_>,
    key: &str,
    members: &'m mut [Member],
    named: &Spanned<Origin>,
) -> Option<&'m mut Member> {
    let span: Range<usize> = named.span();
    let found = members
        .iter_mut()
        .find(|member| member.origin == *named.get_ref());
    if found.is_none() {
        let wrong = Wrong::new("no such origin", "expected one of `origin_direct`")
            .help("write it as it stands there, or add it there");
        table.wrong(key, span, wrong);
    }
    found
}
