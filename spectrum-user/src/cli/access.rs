//! `spectrum block`, `unblock` and `allow`: lists that take effect at once, without the daemon.

use std::{env, net::IpAddr, process::ExitCode};

use anyhow::{Result, bail};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use spectrum_common::access::GLOBAL_SCOPE;

use super::{
    Allow, Block, Entry, Format, Global, Unblock,
    context::{Context, Pinned},
    output,
};
use crate::dataplane::lists::{self, Action, Source};

/// What was done, for `-o json`.
#[derive(Serialize)]
struct Done {
    action: &'static str,
    prefix: IpNet,
    /// Absent: all apps.
    app: Option<String>,
    interfaces: Vec<String>,
    expires: Option<Timestamp>,
}

pub fn block(global: &Global, args: &Block) -> Result<ExitCode> {
    if !args.force {
        refuse_lockout(args.entry.prefix)?;
    }
    put(global, &args.entry, Action::Block)
}

pub fn allow(global: &Global, args: &Allow) -> Result<ExitCode> {
    put(global, &args.entry, Action::Allow)
}

pub fn unblock(global: &Global, args: &Unblock) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let mut interfaces = Vec::new();
    for mut pinned in context.pinned()? {
        let scope = scope(&context, &pinned, args.app.as_deref())?;
        let _lock = pinned.pins.lock()?;
        match lists::get(&pinned.maps, (scope, args.prefix)) {
            Some(entry) if entry.source == Source::Document => bail!(
                "{} is listed in the documents or by a feed, which `spectrum why {}` names\n  help: \
                 take it out there (`spectrum allow {0}` overrides a global block for now)",
                args.prefix,
                args.prefix.network()
            ),
            Some(_) => {
                lists::remove(&mut pinned.maps, (scope, args.prefix))?;
                interfaces.push(pinned.interface.clone());
            }
            None => {}
        }
    }
    if interfaces.is_empty() {
        bail!(
            "{} is on no list of the operator's\n  help: `spectrum why {}` shows what holds for \
             an address; an entry is removed by its own prefix",
            args.prefix,
            args.prefix.network()
        );
    }
    let done = Done {
        action: "unblocked",
        prefix: args.prefix,
        app: args.app.clone(),
        interfaces,
        expires: None,
    };
    done.print(args.format)
}

fn put(global: &Global, entry: &Entry, action: Action) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    if action == Action::Allow {
        refuse_useless(&context, entry)?;
    }
    let mut interfaces = Vec::new();
    for mut pinned in context.pinned()? {
        let key = (
            scope(&context, &pinned, entry.app.as_deref())?,
            entry.prefix,
        );
        let _lock = pinned.pins.lock()?;
        if let Some(listed) = lists::get(&pinned.maps, key)
            && listed.source == Source::Document
            && listed.action == action
        {
            bail!(
                "{} is listed already, in the documents or by a feed\n  help: `spectrum why {}` \
                 names it",
                entry.prefix,
                entry.prefix.network()
            );
        }
        lists::put(&mut pinned.maps, key, action, entry.lifetime)?;
        interfaces.push(pinned.interface);
    }
    let done = Done {
        action: match action {
            Action::Block => "blocked",
            Action::Allow => "allowed",
        },
        prefix: entry.prefix,
        app: entry.app.clone(),
        interfaces,
        expires: entry.lifetime.map(|lifetime| Timestamp::now() + lifetime),
    };
    done.print(entry.format)
}

/// An entry on the allowlist of an app that admits everyone would only seem to do something.
fn refuse_useless(context: &Context, entry: &Entry) -> Result<()> {
    let Some(name) = &entry.app else {
        return Ok(());
    };
    if context.app(name)?.protection.allow.is_empty() {
        bail!(
            "{name} has no allowlist: it admits every source that is not blocked\n  help: give it \
             one (`allow = […]` in its [protection]), or leave out --app to exempt {} from the \
             global blocklist",
            entry.prefix
        );
    }
    Ok(())
}

impl Done {
    fn print(&self, format: Format) -> Result<ExitCode> {
        output::print_as(format.output, self, || {
            let scope = self.app.as_deref().unwrap_or("all apps");
            let until = match self.expires {
                Some(time) => format!(", until {}", output::time(time)),
                None => String::new(),
            };
            format!(
                "{} {} for {scope} on {}{until}",
                self.action,
                self.prefix,
                self.interfaces.join(", ")
            )
        })
    }
}

fn scope(context: &Context, pinned: &Pinned, app: Option<&str>) -> Result<u32> {
    match app {
        None => Ok(GLOBAL_SCOPE),
        Some(name) => pinned.slot(context.app(name)?),
    }
}

/// The operator's own address is the one block that nobody can undo from outside.
fn refuse_lockout(prefix: IpNet) -> Result<()> {
    let peer = env::var("SSH_CONNECTION").ok().and_then(|connection| {
        let ip = connection.split(' ').next()?.parse::<IpAddr>().ok()?;
        Some(ip.to_canonical())
    });
    match peer {
        Some(peer) if prefix.contains(&peer) => bail!(
            "{prefix} contains {peer}, from which you are connected\n  help: --force blocks it \
             all the same"
        ),
        _ => Ok(()),
    }
}
