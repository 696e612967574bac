//! `spectrum status`: from the daemon, or from the pins alone while none runs.

mod certificates;
mod limits;

use std::{collections::BTreeMap, iter, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    Global,
    context::{Context, Pinned},
    databases, output,
};
use crate::{
    control::{self, Request},
    dataplane::{
        Pins,
        counters::{Snapshot, SourceTotals, Total},
    },
    proxy::{OriginCondition, OriginSnapshot},
    status::{AppStatus, InterfaceStatus, Status},
};

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    /// The busiest sources; absent unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<BusySource>>,
}

#[derive(Serialize)]
struct BusySource {
    interface: String,
    app: String,
    #[serde(flatten)]
    totals: SourceTotals,
}

pub fn run(global: &Global, args: &super::Status) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let shown = Shown {
        status: status(&context)?,
        sources: match args.sources {
            0 => None,
            count => Some(busiest(&context, count)?),
        },
    };
    output::print_as(args.format.output, &shown, || shown.text())
}

fn status(context: &Context) -> Result<Status> {
    if let Some(config) = &context.config
        && let Some(status) = control::ask(&config.host.control_socket, Request::Status)?
    {
        return Ok(status);
    }
    if Pins::interfaces(&context.pin_dir).is_empty() {
        bail!(
            "no daemon runs and nothing is pinned in {}\n  help: `spectrum run` starts one",
            context.pin_dir.display()
        );
    }
    Ok(Status::from_pins(
        &context.pin_dir,
        context.config.as_ref(),
    )?)
}

fn busiest(context: &Context, count: usize) -> Result<Vec<BusySource>> {
    let mut all = Vec::new();
    for pinned in context.pinned()? {
        for totals in pinned.maps.top_sources(count)? {
            all.push(busy_source(context, &pinned, totals)?);
        }
    }
    all.sort_by_key(|source| std::cmp::Reverse(source.totals.packets));
    all.truncate(count);
    Ok(all)
}

fn busy_source(context: &Context, pinned: &Pinned, totals: SourceTotals) -> Result<BusySource> {
    Ok(BusySource {
        interface: pinned.interface.clone(),
        app: context.scope_name(pinned, totals.slot)?,
        totals,
    })
}

impl Shown {
    fn text(&self) -> String {
        let mut text = self.headline();
        text += &interfaces(&self.status.interfaces);
        text += &apps(&self.status.apps);
        text += &origins(&self.status.apps);
        text += &certificates::text(&self.status.apps);
        text += &challenges(&self.status.apps);
        text += &strays(&self.status.apps);
        text += &limits::text(&self.status.apps);
        text += &reasons(&self.status);
        text += &amplification(&self.status.apps);
        text += &data_paths(&self.status);
        text += &rules(&self.status);
        text += &mitigations(&self.status.apps);
        text += &databases::table(&self.status.databases);
        if let Some(sources) = &self.sources {
            text += &busy_sources(sources);
        }
        text
    }

    fn headline(&self) -> String {
        let daemon = &self.status.daemon;
        match (daemon.pid, daemon.started) {
            (Some(pid), Some(started)) if daemon.running => {
                format!("daemon: pid {pid}, since {}\n", output::time(started))
            }
            _ => "daemon: not running; the filter works on, but nothing is proxied\n".to_owned(),
        }
    }
}

fn interfaces(interfaces: &[InterfaceStatus]) -> String {
    let mut table = output::table(&[
        "interface",
        "mode",
        "no app: passed",
        "dropped",
        "events lost",
    ]);
    for interface in interfaces {
        let dropped = interface.host.dropped.values().copied();
        table.add_row([
            interface.name.clone(),
            interface.mode.clone(),
            packets(interface.host.passed),
            packets(sum(dropped)),
            output::count(interface.events.lost),
        ]);
    }
    format!("\n{table}\n")
}

fn apps(apps: &[AppStatus]) -> String {
    let mut table = output::table(&[
        "app", "protocol", "passed", "dropped", "open", "total", "in", "out",
    ]);
    for app in apps {
        let passed = sum(app
            .filter
            .monitored
            .values()
            .copied()
            .chain([app.filter.passed]));
        let mut row = vec![
            app.name.clone(),
            app.protocol.clone(),
            packets(passed),
            packets(sum(app.filter.dropped.values().copied())),
        ];
        match &app.proxy {
            Some(proxy) => row.extend([
                if app.is_drained {
                    format!("{} (draining)", output::count(proxy.active.into()))
                } else {
                    output::count(proxy.active.into())
                },
                output::count(proxy.totals.connections),
                output::bytes(proxy.totals.ingress_bytes),
                output::bytes(proxy.totals.egress_bytes),
            ]),
            None => row.extend(iter::repeat_n("–".to_owned(), 4)),
        }
        table.add_row(row);
    }
    format!("\n{table}\n")
}

/// The origins of apps that have several, or one that is checked, bounded or not simply up; nothing if there are none.
fn origins(apps: &[AppStatus]) -> String {
    let is_shown = |origins: &[OriginSnapshot]| {
        let mut each = origins.iter();
        let says_something = |origin: &OriginSnapshot| {
            let is_bounded = origin.max_connections.is_some();
            is_bounded || origin.state != OriginCondition::Up || origin.check.is_some()
        };
        origins.len() > 1 || each.any(says_something)
    };
    let mut table = output::table(&[
        "app",
        "origin",
        "state",
        "weight",
        "open",
        "failures",
        "connects in",
    ]);
    for app in apps {
        let origins = app.proxy.iter().flat_map(|proxy| {
            let routes = proxy.routes.iter().map(|route| route.origins.as_slice());
            iter::once(proxy.origins.as_slice()).chain(routes)
        });
        for origin in origins.filter(|origins| is_shown(origins)).flatten() {
            table.add_row([
                app.name.clone(),
                origin.address.to_string(),
                origin_state(origin),
                origin.weight.to_string(),
                match origin.max_connections {
                    None => output::count(origin.active.into()),
                    Some(most) => format!("{} of {most}", origin.active),
                },
                output::count(origin.failures),
                origin.connect_us.map_or_else(
                    || "–".to_owned(),
                    |time| output::duration(Duration::from_micros(time)),
                ),
            ]);
        }
    }
    let lookups: String = apps.iter().filter_map(lookup).collect();
    match (table.is_empty(), lookups.as_str()) {
        (true, "") => String::new(),
        (true, lookups) => format!("\n{lookups}"),
        (false, lookups) => format!("\n{table}\n{lookups}"),
    }
}

/// What became of the name of an app's origins, on a line; `None` if it has none.
fn lookup(app: &AppStatus) -> Option<String> {
    let lookup = app.proxy.as_ref()?.lookup.as_ref()?;
    let answered = match lookup.answered {
        Some(at) => format!("answered {}", output::time(at)),
        None => "never answered".to_owned(),
    };
    let failure = lookup.failure.as_ref();
    let failure = failure.map(|failure| format!("; now: {failure}"));
    Some(format!(
        "{}: {} {answered}{}\n",
        app.name,
        lookup.name,
        failure.unwrap_or_default()
    ))
}

fn origin_state(origin: &OriginSnapshot) -> String {
    let state = match &origin.state {
        OriginCondition::Up => "up".to_owned(),
        OriginCondition::SlowStart { percent } => format!("back, at {percent} %"),
        OriginCondition::Paused { seconds_left } => format!("paused for {seconds_left} s"),
        OriginCondition::Down { since } => {
            let failure = origin
                .check
                .as_ref()
                .and_then(|check| check.failure.as_deref());
            let failure = failure.map(|failure| format!(": {failure}"));
            let since = output::time(*since);
            format!("down since {since}{}", failure.unwrap_or_default())
        }
        OriginCondition::Maintenance => "maintenance".to_owned(),
    };
    if origin.backup {
        format!("{state} (backup)")
    } else {
        state
    }
}

/// The apps that get too many segments of no connection, one a line.
fn strays(apps: &[AppStatus]) -> String {
    let lines = apps.iter().filter_map(|app| {
        let since = output::time(app.filter.strays_since?);
        Some(format!(
            "{}: segments of no connection are too many since {since} (out_of_state)\n",
            app.name
        ))
    });
    block(lines.collect())
}

/// The apps whose SYNs are or were answered with cookies, one a line.
fn challenges(apps: &[AppStatus]) -> String {
    let lines = apps.iter().filter_map(|app| {
        let count = packets(app.filter.challenged);
        match app.filter.challenged_since {
            Some(since) => Some(format!(
                "{}: SYNs are answered with cookies since {} ({count} so far)\n",
                app.name,
                output::time(since)
            )),
            None if app.filter.challenged == Total::default() => None,
            None => Some(format!(
                "{}: {count} SYNs were answered with cookies\n",
                app.name
            )),
        }
    });
    block(lines.collect())
}

/// Lines below an empty one; nothing if there are none.
fn block(lines: String) -> String {
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}

/// Dropped and monitored packets by reason, over everything.
fn reasons(status: &Status) -> String {
    let mut all = Snapshot::default();
    let hosts = status.interfaces.iter().map(|interface| &interface.host);
    let apps = status.apps.iter().map(|app| &app.filter);
    hosts.chain(apps).for_each(|snapshot| all.merge(snapshot));
    if all.dropped.is_empty() && all.monitored.is_empty() {
        return "\nNothing was dropped.\n".to_owned();
    }
    let mut rows: BTreeMap<&str, (Total, Total)> = BTreeMap::new();
    for (reason, total) in &all.dropped {
        rows.entry(reason).or_default().0 = *total;
    }
    for (reason, total) in &all.monitored {
        rows.entry(reason).or_default().1 = *total;
    }
    let mut table = output::table(&["reason", "dropped", "bytes", "would have been (monitored)"]);
    for (reason, (dropped, monitored)) in rows {
        table.add_row([
            reason.to_owned(),
            packets(dropped),
            output::bytes(dropped.bytes),
            packets(monitored),
        ]);
    }
    format!("\n{table}\n")
}

/// What the proxy withheld from clients who may be nobody; nothing if that was nothing.
fn amplification(apps: &[AppStatus]) -> String {
    let rows = apps.iter().filter_map(|app| {
        let totals = app.proxy.as_ref()?.totals;
        let (dropped, monitored) = (totals.amplification_dropped, totals.amplification_monitored);
        (dropped + monitored > 0).then_some((&app.name, dropped, monitored))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut table = output::table(&[
        "app",
        "amplification: replies withheld",
        "would have been (monitored)",
    ]);
    for (name, dropped, monitored) in rows {
        table.add_row([
            name.clone(),
            output::count(dropped),
            output::count(monitored),
        ]);
    }
    format!("\n{table}\n")
}

/// Which way datagrams take, and those of sessions that are known to the filter and it still left to the
/// proxy.
fn data_paths(status: &Status) -> String {
    let of_apps = status.apps.iter().filter_map(|app| {
        let path = app.data_path.as_ref()?;
        Some(match &path.why {
            None => format!(
                "{}: datagrams of known clients go past the proxy\n",
                app.name
            ),
            Some(why) => format!("{}: datagrams go through the proxy: {why}\n", app.name),
        })
    });
    let of_interfaces = status.interfaces.iter().filter_map(|interface| {
        let counts = interface.datagrams.iter();
        let counts = counts.map(|(name, count)| format!("{name} {}", output::count(*count)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        (!counts.is_empty())
            .then(|| format!("{}: datagrams of sessions: {counts}\n", interface.name))
    });
    block(of_apps.chain(of_interfaces).collect())
}

/// Custom rules; nothing if there are none.
fn rules(status: &Status) -> String {
    let of_apps = status
        .apps
        .iter()
        .flat_map(|app| app.rules.iter().map(|rule| (app.name.as_str(), rule)));
    let of_host = status.rules.iter().map(|rule| ("all apps", rule));
    let mut rows = of_host.chain(of_apps).peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    let mut table = output::table(&["rule", "app", "action", "mode", "matched", "over its rate"]);
    for (app, rule) in rows {
        let name = rule.name.iter().map(|name| format!(" {name}"));
        table.add_row([
            format!("{}{}", rule.id, name.collect::<String>()),
            app.to_owned(),
            rule.action.clone(),
            rule.mode.clone(),
            output::count(rule.hits.packets),
            match rule.action.as_str() {
                "rate-limit" => output::count(rule.hits.limited),
                _ => "–".to_owned(),
            },
        ]);
    }
    format!("\n{table}\n")
}

/// One line for each mitigation; nothing if there are none.
fn mitigations(apps: &[AppStatus]) -> String {
    let lines = apps.iter().flat_map(|app| {
        app.mitigations.iter().map(|mitigation| {
            format!(
                "\nmitigation {} at {} ({}): {}; {} packets so far",
                mitigation.id,
                app.name,
                mitigation.mode,
                mitigation.fingerprint,
                output::count(mitigation.hits.packets)
            )
        })
    });
    let lines: Vec<String> = lines.collect();
    match lines.len() {
        0 => String::new(),
        _ => format!("{}\n", lines.concat()),
    }
}

fn busy_sources(sources: &[BusySource]) -> String {
    let mut table = output::table(&["source", "app", "packets", "bytes", "over a limit"]);
    for BusySource { app, totals, .. } in sources {
        table.add_row([
            totals.source.to_string(),
            app.clone(),
            output::count(totals.packets),
            output::bytes(totals.bytes),
            output::count(totals.limited),
        ]);
    }
    format!("\n{table}\n")
}

fn packets(total: Total) -> String {
    output::count(total.packets)
}

fn sum(totals: impl IntoIterator<Item = Total>) -> Total {
    let mut sum = Total::default();
    totals.into_iter().for_each(|total| sum.add(total));
    sum
}
