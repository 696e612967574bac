//! The origins of an app: `origin_direct` or `origin_dns`, and the table `origins` that says who gets what.

use std::{net::IpAddr, ops::Range, time::Duration};

use toml::Spanned;

use super::{
    address::{self, Protocol},
    app::host_name,
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{
    Balance, EdgeIps, Lookup, Member, Origin, Origins, PortRange, Records, SourceAddress,
};

const DIRECT: &str = "origin_direct";
const EXAMPLE: &str = "origin_direct = [\"tcp://192.0.2.1:22\"]";

const MAX_WEIGHT: u16 = 256;
const MAX_RETRIES: u32 = 63;
const MAX_SLOW_START: Duration = Duration::from_hours(1);

const MAX_AGE: Duration = Duration::from_mins(10);
/// Seconds in a day.
const MAX_TTL: u64 = 86_400;

pub(super) fn read(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
) -> Origins {
    let listed = direct(root, protocol, edge_ips);
    let (is_named, lookup) = lookup(root, protocol);
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
    let max_connections = table.get("max_connections", |value| value.integer(1..=u32::MAX));
    let max_connections = max_connections.map(Spanned::into_inner);

    let source = source(&mut table, &listed);

    if is_named {
        for key in ["weights", "backup", "maintenance"] {
            if let Some(span) = table.get(key, |value| Ok(value.span())) {
                let wrong = Wrong::new("goes with `origin_direct` only", "no origin is named here")
                    .help("SRV records have weights, and priorities as backups have them");
                table.wrong(key, span.into_inner(), wrong);
            }
        }
        table.finish();
        return Origins {
            members: Vec::new(),
            lookup,
            balance,
            retries,
            slow_start,
            source,
            max_connections,
        };
    }
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
            member.rank = 1;
        }
    }
    if let Some(last) = backup.last()
        && members.iter().all(|member| member.rank > 0)
    {
        let wrong = Wrong::new("every origin is a backup", "and this as well")
            .help("leave out the origins that get connections on a good day");
        table.wrong("backup", last.span(), wrong);
    }
    table.finish();
    Origins {
        members,
        lookup: None,
        balance,
        retries,
        slow_start,
        source,
        max_connections,
    }
}

/// `sources` or `transparent`.
fn source(table: &mut Table<'_>, origins: &[Origin]) -> SourceAddress {
    let pool = table.items(
        "sources",
        "to leave it to the route, remove this field",
        |value| address::edge_address(value.text()?),
    );
    let transparent = table.get("transparent", Value::boolean);
    let transparent = transparent.filter(|transparent| *transparent.get_ref());
    match (pool, transparent) {
        (None, None) => SourceAddress::Route,
        (None, Some(_)) => SourceAddress::Client,
        (Some(pool), transparent) => {
            let span = pool.span();
            if let Some(transparent) = transparent {
                let wrong = Wrong::new("connections have one source", "one too many")
                    .beside(transparent.span(), "the client's, by this")
                    .help("remove one of them");
                table.wrong("sources", span.clone(), wrong);
            }
            let pool: Vec<IpAddr> = pool
                .into_inner()
                .into_iter()
                .map(Spanned::into_inner)
                .collect();
            let lonely =
                |origin: &&Origin| !pool.iter().any(|ip| ip.is_ipv4() == origin.ip.is_ipv4());
            if !pool.is_empty()
                && let Some(origin) = origins.iter().find(lonely)
            {
                let family = if origin.ip.is_ipv4() { "IPv4" } else { "IPv6" };
                let wrong = Wrong::new(
                    format!("no address here is {family}"),
                    format!("the origin {} is", origin.ip),
                )
                .help(format!("add an {family} address of this host"));
                table.wrong("sources", span, wrong);
            }
            SourceAddress::Pool(pool)
        }
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

/// `origin_dns` and `origin_port`; the first says whether it is in the document.
fn lookup(root: &mut Table<'_>, protocol: Option<&Spanned<Protocol>>) -> (bool, Option<Lookup>) {
    let given = root.get("origin_dns", |value| Ok(value.span()));
    let mut table = root.table("origin_dns");
    let name = if table.is_there() {
        table.require("name", "name = \"origin.example.com\"", |value| {
            host_name(value.text()?)
        })
    } else {
        table.get("name", |value| host_name(value.text()?))
    };
    let records = table.get("type", |value| value.choice(Records::WORDS));
    let max_age = table.get_or("ttl", MAX_AGE, |value| {
        value.integer(1..=MAX_TTL).map(Duration::from_secs)
    });
    let is_srv = records.as_ref().map(Spanned::get_ref) == Some(&Records::Srv);
    if let (true, Some(records), Some(protocol)) = (is_srv, &records, protocol)
        && protocol.get_ref().ports.count() > 1
    {
        let wrong = Wrong::new("SRV records name one port", "not with a range of ports")
            .beside(protocol.span(), "because of this")
            .help("ask for addresses, and write `origin_port`");
        table.wrong("type", records.span(), wrong);
    }
    table.finish();
    let port = root.get("origin_port", |value| origin_port(value, protocol));
    let Some(given) = given else {
        if let Some(port) = port {
            let wrong = Wrong::new("goes with `origin_dns` only", "no place for a port")
                .help("write the port into `origin_direct`, for example `tcp://192.0.2.1:22`");
            root.wrong("origin_port", port.span(), wrong);
        }
        return (false, None);
    };
    if root.has(DIRECT) {
        let wrong = Wrong::new("an app has either this or `origin_direct`", "one too many")
            .help("remove one of them");
        root.wrong("origin_dns", given.span(), wrong);
    }
    match &port {
        Some(port) if is_srv => {
            let wrong = Wrong::new("SRV records have ports of their own", "one too many")
                .help("remove it, or ask for addresses instead of SRV");
            root.wrong("origin_port", port.span(), wrong);
        }
        None if !is_srv && !root.has("origin_port") && !root.has(DIRECT) => {
            root.missing("origin_port", "origin_port = 22");
        }
        _ => {}
    }
    let lookup = name.map(|name| Lookup {
        name: name.into_inner(),
        records: records.map_or(Records::Any, Spanned::into_inner),
        first_port: port.map(Spanned::into_inner),
        max_age,
    });
    (true, lookup)
}

/// `22`, or for an app with a range of ports, one as wide: `"3000-4000"`. The first of them.
fn origin_port(value: Value<'_>, protocol: Option<&Spanned<Protocol>>) -> Result<u16, Wrong> {
    let ports = match value.text() {
        Ok(text) => address::ports(text)?,
        Err(_) => {
            let port = value.integer(1..=u16::MAX)?;
            PortRange {
                first: port,
                last: port,
            }
        }
    };
    if let Some(protocol) = protocol {
        address::same_count(ports, protocol)?;
    }
    Ok(ports.first)
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
