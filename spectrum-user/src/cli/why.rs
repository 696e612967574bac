//! `spectrum why <ip>`: what the data plane would do with a source, and why.

mod listers;

use std::{net::IpAddr, process::ExitCode, time::Duration};

use anyhow::Result;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use spectrum_ebpf::verdict::Outcome;

use self::listers::Listers;
use super::{
    Global,
    context::{Context, Pinned},
    output,
};
use crate::{
    config::App,
    control::{self, Request},
    dataplane::{
        clock,
        counters::SourceTotals,
        lists::{self, Action, Entry, Source},
    },
    geo::{self, Origin},
    status::{DataPathStatus, RecentDrop, Status},
};

#[derive(Serialize)]
struct Why {
    source: IpAddr,
    /// Where it is, by the databases as they are now; absent if none are named.
    origin: Option<Origin>,
    /// One for each app and interface.
    verdicts: Vec<AppVerdict>,
    /// Everything on a list that covers the source, most specific first.
    entries: Vec<ListedEntry>,
    /// Which way datagrams take, of each UDP app; empty without a daemon.
    data_paths: Vec<AppPath>,
    /// The last drops of this source of which there was an event, oldest first.
    recent_drops: Vec<RecentDrop>,
}

#[derive(Serialize)]
struct AppPath {
    app: String,
    #[serde(flatten)]
    status: DataPathStatus,
}

#[derive(Serialize)]
struct AppVerdict {
    interface: String,
    app: String,
    protocol: String,
    /// `pass`, `monitor`, `drop`, or `challenge` (its SYNs are answered with a cookie, and it passes
    /// when it has answered in turn); `unreachable` if no edge address has the source's family.
    verdict: &'static str,
    reason: Option<&'static str>,
    /// The source has proved to the app that it is real: above a ceiling it comes first.
    known: bool,
    /// What the app has counted of this source; absent if it has not been seen lately, or the app
    /// has no rates.
    counted: Option<SourceTotals>,
}

#[derive(Serialize)]
struct ListedEntry {
    interface: String,
    scope: String,
    prefix: IpNet,
    action: Action,
    source: Source,
    /// The documents (by path) and the feeds that say so; empty for an entry of the operator's.
    listed_by: Vec<String>,
    expired: bool,
    added: Option<Timestamp>,
    expires: Option<Timestamp>,
}

pub fn run(global: &Global, args: &super::Why) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let source = args.ip.to_canonical();
    let status = daemon_status(&context)?;
    let mut why = Why {
        source,
        origin: origin(&context, source),
        verdicts: Vec::new(),
        entries: Vec::new(),
        data_paths: Vec::new(),
        recent_drops: recent_drops(status.as_ref(), source),
    };
    let apps: Vec<&App> = match (&args.app, &context.config) {
        (Some(name), _) => vec![context.app(name)?],
        (None, Some(config)) => config.apps.iter().map(AsRef::as_ref).collect(),
        (None, None) => Vec::new(),
    };
    why.data_paths = data_paths(status.as_ref(), &apps);
    let config = context.config.as_ref();
    let listers = config.map(|config| Listers::new(config, &global.config));
    for pinned in context.pinned()? {
        for app in &apps {
            why.verdicts.push(verdict(&pinned, app, source)?);
        }
        why.entries.extend(covering_entries(
            &context,
            &pinned,
            listers.as_ref(),
            source,
        )?);
    }
    output::print_as(args.format.output, &why, || why.text())
}

fn origin(context: &Context, source: IpAddr) -> Option<Origin> {
    let files = &context.config.as_ref()?.host.geo.databases;
    let (origin, errors) = geo::look_up(files.iter().map(AsRef::as_ref), source);
    for error in errors {
        log::warn!("{error:#}");
    }
    (!files.is_empty()).then_some(origin)
}

fn verdict(pinned: &Pinned, app: &App, source: IpAddr) -> Result<AppVerdict> {
    let slot = pinned.slot(app)?;
    let found = pinned
        .maps
        .verdict_on(source, slot, app.transport, app.ports.first)?;
    let (verdict, reason) = match found.map(|verdict| verdict.outcome) {
        None => ("unreachable", None),
        Some(Outcome::Passed) => ("pass", None),
        Some(Outcome::Monitored(reason)) => ("monitor", Some(reason.name())),
        Some(Outcome::Dropped(reason)) => ("drop", Some(reason.name())),
        Some(Outcome::Answered) => ("challenge", None),
    };
    Ok(AppVerdict {
        interface: pinned.interface.clone(),
        app: app.name.clone(),
        protocol: app.protocol(),
        verdict,
        reason,
        known: pinned.maps.is_proven(app.id, source)?,
        counted: pinned.maps.source_at(source, slot)?,
    })
}

fn covering_entries(
    context: &Context,
    pinned: &Pinned,
    listers: Option<&Listers<'_>>,
    ip: IpAddr,
) -> Result<Vec<ListedEntry>> {
    let mut covering: Vec<((u32, IpNet), Entry)> = lists::all(&pinned.maps)
        .filter(|((_, prefix), _)| prefix.contains(&ip))
        .collect();
    covering.sort_by_key(|((_, prefix), _)| std::cmp::Reverse(prefix.prefix_len()));
    let now = clock::since_boot();
    let moment = |then: Duration| Timestamp::try_from(clock::wall_time(then)).ok();
    let listed = covering.into_iter().map(|((scope, prefix), entry)| {
        let app = context.app_at(pinned, scope)?;
        let listed_by = match (entry.source, listers) {
            (Source::Document, Some(listers)) => listers.of(app, entry.action, prefix),
            (_, _) => Vec::new(),
        };
        Ok(ListedEntry {
            interface: pinned.interface.clone(),
            scope: context.scope_name(pinned, scope)?,
            prefix,
            action: entry.action,
            source: entry.source,
            listed_by,
            expired: entry.expires.is_some_and(|expires| expires <= now),
            added: moment(entry.added),
            expires: entry.expires.and_then(moment),
        })
    });
    listed.collect()
}

/// What the daemon says, if there is one.
fn daemon_status(context: &Context) -> Result<Option<Status>> {
    match &context.config {
        Some(config) => control::ask(&config.host.control_socket, Request::Status),
        None => Ok(None),
    }
}

/// The daemon remembers them; without one there are none.
fn recent_drops(status: Option<&Status>, source: IpAddr) -> Vec<RecentDrop> {
    let drops = status.map(|status| status.recent_drops.as_slice());
    let drops = drops.unwrap_or_default().iter();
    let of_source = drops.filter(|recent| recent.drop.source.ip() == source);
    of_source.cloned().collect()
}

fn data_paths(status: Option<&Status>, apps: &[&App]) -> Vec<AppPath> {
    let known = status.map(|status| status.apps.as_slice());
    let known = known.unwrap_or_default().iter();
    let asked = known.filter(|known| apps.iter().any(|app| app.name == known.name));
    let with_path = asked.filter_map(|app| {
        Some(AppPath {
            app: app.name.clone(),
            status: app.data_path.clone()?,
        })
    });
    with_path.collect()
}

impl Why {
    fn text(&self) -> String {
        let mut text = String::new();
        for verdict in &self.verdicts {
            text += &verdict.line(self.source);
            text.push('\n');
        }
        for AppPath { app, status } in &self.data_paths {
            text += &match &status.why {
                None => format!("{app}: its datagrams go past the proxy, once it is known\n"),
                Some(why) => format!("{app}: its datagrams go through the proxy: {why}\n"),
            };
        }
        if let Some(origin) = &self.origin {
            text += &format!("\n{} {}.\n", self.source, place(origin));
        }
        if self.entries.is_empty() {
            text += &format!("\n{} is on no list.\n", self.source);
        } else {
            text += "\nOn the lists:\n";
            self.entries.iter().for_each(|entry| text += &entry.line());
        }
        if !self.recent_drops.is_empty() {
            text += "\nDropped lately:\n";
            self.recent_drops
                .iter()
                .for_each(|recent| text += &drop_line(recent));
        }
        text
    }
}

/// Where a source is, in words.
fn place(origin: &Origin) -> String {
    let country = match origin.country {
        Some(country) => format!("is in {country}"),
        None => "is in no country that a database knows (XX)".to_owned(),
    };
    let system = match (origin.asn, &origin.organisation) {
        (Some(asn), Some(organisation)) => format!("in AS{asn} ({organisation})"),
        (Some(asn), None) => format!("in AS{asn}"),
        (None, _) => "in no autonomous system that one knows".to_owned(),
    };
    format!("{country}, {system}")
}

impl AppVerdict {
    fn line(&self, source: IpAddr) -> String {
        let Self {
            app,
            protocol,
            interface,
            ..
        } = self;
        let judged = match (self.verdict, self.reason) {
            ("pass", _) => "passes".to_owned(),
            ("challenge", _) => {
                "has to answer a SYN cookie, as everyone now, and passes then".to_owned()
            }
            ("drop", Some(reason)) => format!("is DROPPED: {reason}"),
            (_, Some(reason)) => format!("passes, but is monitored: {reason}"),
            _ => {
                let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
                format!("cannot reach it: the app has no {family} edge address")
            }
        };
        let known = if self.known { ", known to be real" } else { "" };
        let counted = match self.counted {
            Some(SourceTotals {
                packets, limited, ..
            }) => {
                format!(" ({packets} packets seen, {limited} of them over a limit)")
            }
            None => String::new(),
        };
        format!("{app} ({protocol}) on {interface}: {source} {judged}{known}{counted}")
    }
}

impl ListedEntry {
    fn line(&self) -> String {
        let action = match self.action {
            Action::Block => "block",
            Action::Allow => "allow",
        };
        let source = match (self.source, self.listed_by.as_slice()) {
            (Source::Operator, _) => "the command line".to_owned(),
            // They changed meanwhile, or cannot be read.
            (Source::Document, []) => "the documents".to_owned(),
            (Source::Document, listers) => listers.join(" and "),
        };
        let until = match self.expires {
            Some(time) if self.expired => format!(", expired {}", output::time(time)),
            Some(time) => format!(", until {}", output::time(time)),
            None => String::new(),
        };
        let since = self
            .added
            .map(|time| format!(", since {}", output::time(time)));
        format!(
            "  {action} {} for {} on {} (from {source}{}{until})\n",
            self.prefix,
            self.scope,
            self.interface,
            since.unwrap_or_default()
        )
    }
}

fn drop_line(recent: &RecentDrop) -> String {
    let drop = &recent.drop;
    let also = match drop.suppressed {
        0 => String::new(),
        more => format!(", after {more} more without a sample"),
    };
    let monitored = if drop.enforced {
        ""
    } else {
        " (monitored: it passed)"
    };
    format!(
        "  {} {} → {} {}{monitored}{also}\n",
        output::time(drop.time),
        drop.source,
        recent.app.as_deref().unwrap_or("no app"),
        drop.reason,
    )
}
