//! `spectrum lists`: what is listed, where it comes from, and how fresh it is.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::{Global, ListsCommand, context::Context, databases, output};
use crate::{
    control::{self, Request},
    feeds::FeedStatus,
    status::Lists,
};

pub fn run(global: &Global, args: &super::Lists) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let config = context
        .config
        .context("without a configuration no daemon can be asked")?;
    let socket = &config.host.control_socket;
    let none_runs = "no daemon runs, and it is the daemon that fetches feeds\n  help: `spectrum \
                     run` starts one; `spectrum why <ip>` shows what holds for an address meanwhile";
    if let Some(ListsCommand::Refresh { name }) = &args.command {
        let request = Request::RefreshFeeds { name: name.clone() };
        let asked: usize = control::ask(socket, request)?.context(none_runs)?;
        if asked == 0 {
            bail!(
                "{}\n  help: feeds are in `[[feeds]]` of {}, databases in its `[geo]`",
                match name {
                    Some(name) => format!("no feed is called {name}"),
                    None => "there are neither feeds nor databases".to_owned(),
                },
                global.config.display()
            );
        }
        return output::print_as(args.format.output, &asked, || {
            format!(
                "{asked} feeds and databases are looked at now; `spectrum lists` shows what was found"
            )
        });
    }
    let lists: Lists = control::ask(socket, Request::Lists)?.context(none_runs)?;
    output::print_as(args.format.output, &lists, || text(&lists))
}

fn text(lists: &Lists) -> String {
    let mut table = output::table(&["list", "entries", "source", "fetched", "next look", ""]);
    for feed in &lists.feeds {
        let apps = if feed.apps.is_empty() {
            "all apps".to_owned()
        } else {
            feed.apps.join(", ")
        };
        table.add_row([
            format!("{}: {} for {apps}", feed.name, feed.action),
            output::count(feed.entries as u64),
            feed.source.clone(),
            output::time_or_none(feed.fetched),
            output::time_or_none(feed.next),
            remarks(feed),
        ]);
    }
    let own = [
        ("documents", lists.documents, "spectrum.toml, apps.d"),
        ("operator", lists.operator, "spectrum block, allow"),
    ];
    for (name, entries, source) in own {
        let entries = output::count(entries as u64);
        table.add_row([name, &entries, source, "", "", ""]);
    }
    format!("{table}\n{}", databases::table(&lists.databases))
}

fn remarks(feed: &FeedStatus) -> String {
    let mut remarks = Vec::new();
    if let Some(error) = &feed.error {
        remarks.push(format!("failed: {error}"));
    }
    if let Some(first) = &feed.first_bad {
        remarks.push(format!("{} lines left out, first {first}", feed.bad_lines));
    }
    if feed.spared > 0 {
        remarks.push(format!("{} would have blocked you", feed.spared));
    }
    remarks.join("; ")
}
