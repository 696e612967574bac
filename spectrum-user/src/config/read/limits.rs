//! The table `limits` of an app.

use std::{ops::RangeInclusive, time::Duration};

use toml::Spanned;

use super::{
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{Bandwidth, ConnectionRate, Limits, NewConnections, Queue, Transport, Ways};

/// An idle connection costs a few KiB here, and the origin is the first to run out.
const CONNECTIONS: u32 = 100_000;

/// Room for an office or a carrier's NAT behind one address; one source alone cannot fill the app.
const CONNECTIONS_PER_SOURCE: u32 = 1_000;

/// More than a host can accept.
const MAX_RATE: u32 = 10_000_000;

/// Less is no service any more; more is beyond any card (100 Gbit/s).
const BANDWIDTH: RangeInclusive<u64> = 1_000..=12_500_000_000;

/// How long a client waits for a place, if the document does not say: a page that comes later is a
/// page that nobody waits for.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
const QUEUE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(5);
const MAX_QUEUE: u32 = 1_000_000;

/// `is_bounded`: whether there are origins that may be full.
pub(super) fn read(root: &mut Table<'_>, transport: Option<Transport>, is_bounded: bool) -> Limits {
    let mut table = root.table("limits");
    let connections = table.get_or("connections", CONNECTIONS, |value| limit(value));
    let per_prefix = table.get_or("connections_per_prefix", connections, |value| {
        at_most(value, connections, "connections", "the app's")
    });
    let default = CONNECTIONS_PER_SOURCE.min(per_prefix);
    let per_source = table.get_or("connections_per_source", default, |value| {
        at_most(value, connections, "connections", "the app's")?;
        at_most(value, per_prefix, "connections_per_prefix", "a prefix's")
    });
    let new_connections = new_connections(&mut table);
    let bandwidth = bandwidth(&mut table);
    let queue = queue(&mut table, transport, is_bounded);
    table.finish();
    Limits {
        connections,
        connections_per_prefix: per_prefix,
        connections_per_source: per_source,
        new_connections,
        bandwidth,
        queue,
    }
}

fn limit(value: Value<'_>) -> Result<u32, Wrong> {
    value.integer(1..=u32::MAX)
}

/// A part cannot hold more than the whole, which `field` bounds.
fn at_most(value: Value<'_>, whole: u32, field: &str, whose: &str) -> Result<u32, Wrong> {
    let part = limit(value)?;
    if part <= whole {
        return Ok(part);
    }
    Err(Wrong::new(
        format!("more than {whose} {whole} in all"),
        format!("expected at most {whole}"),
    )
    .help(format!("raise `{field}`, or lower this")))
}

fn new_connections(limits: &mut Table<'_>) -> NewConnections {
    let mut table = limits.table("new_connections_per_second");
    let rates = NewConnections {
        app: connection_rate(&mut table, "app", "app_burst"),
        per_source: connection_rate(&mut table, "per_source", "per_source_burst"),
    };
    table.finish();
    rates
}

fn connection_rate(
    table: &mut Table<'_>,
    rate: &'static str,
    burst: &'static str,
) -> Option<ConnectionRate> {
    let limit = |value: Value<'_>| {
        let help = "to have no limit, remove the field";
        let number = value.integer(1..=MAX_RATE);
        number.map_err(|wrong| wrong.help(help))
    };
    let per_second = table.get(rate, limit).map(Spanned::into_inner);
    let given = table.get(burst, limit);
    if let Some(given) = &given
        && !table.has(rate)
    {
        let wrong = Wrong::new("there is no rate to go with it", "without effect")
            .help(format!("write `{rate}` beside it, or remove this field"));
        table.wrong(burst, given.span(), wrong);
    }
    let per_second = per_second?;
    let default = per_second.saturating_mul(2).min(MAX_RATE);
    Some(ConnectionRate {
        per_second,
        burst: given.map_or(default, Spanned::into_inner),
    })
}

fn bandwidth(limits: &mut Table<'_>) -> Bandwidth {
    let mut table = limits.table("bandwidth");
    let bandwidth = Bandwidth {
        per_connection: ways(&mut table, "per_connection"),
        per_source: ways(&mut table, "per_source"),
        app: ways(&mut table, "app"),
    };
    table.finish();
    bandwidth
}

fn ways(bandwidth: &mut Table<'_>, key: &'static str) -> Ways {
    let mut table = bandwidth.table(key);
    let mut way = |key| {
        let rate = table.get(key, |value| scalar::byte_rate(value, BANDWIDTH));
        rate.map(Spanned::into_inner)
    };
    let ways = Ways {
        up: way("up"),
        down: way("down"),
    };
    table.finish();
    ways
}

fn queue(limits: &mut Table<'_>, transport: Option<Transport>, is_bounded: bool) -> Option<Queue> {
    let given = limits.get("queue", |value| Ok(value.span()))?.into_inner();
    let mut table = limits.table("queue");
    if !table.is_there() {
        return None;
    }
    let length = table.require("length", "length = 100", |value| {
        value.integer(1..=MAX_QUEUE)
    });
    let timeout = table.get_or("timeout", QUEUE_TIMEOUT, |value| {
        scalar::duration(value, QUEUE_TIMEOUTS)
    });
    table.finish();
    if transport == Some(Transport::Udp) {
        let wrong = Wrong::new("datagrams do not wait", "only for TCP apps")
            .help("remove it; over UDP, who finds all origins full is refused");
        limits.wrong("queue", given, wrong);
    } else if !is_bounded {
        let wrong = Wrong::new("no origin is ever full", "without effect")
            .help("write `max_connections` below `[origins]`, or remove this");
        limits.wrong("queue", given, wrong);
    }
    let length = length?.into_inner();
    Some(Queue { length, timeout })
}
