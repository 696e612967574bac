//! `spectrum block`, `unblock` and `allow`: lists that take effect at once, without the daemon.

use std::{env, net::IpAddr, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use spectrum_common::access::GLOBAL_SCOPE;

use super::{
    AllowArgs, BlockArgs, GlobalArgs, UnblockArgs,
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

pub(super) fn block(global: &GlobalArgs, args: &BlockArgs) -> Result<ExitCode> {
    if !args.force {
        refuse_lockout(args.prefix)?;
    }
    let listing = Listing {
        prefix: args.prefix,
        action: Action::Block,
        lifetime: args.lifetime,
        app: args.app.as_deref(),
    };
    listing.put(global)
}

pub(super) fn allow(global: &GlobalArgs, args: &AllowArgs) -> Result<ExitCode> {
    let listing = Listing {
        prefix: args.prefix,
        action: Action::Allow,
        lifetime: args.lifetime,
        app: args.app.as_deref(),
    };
    listing.put(global)
}

pub(super) fn unblock(global: &GlobalArgs, args: &UnblockArgs) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let mut interfaces = Vec::new();
    for mut pinned in context.pinned()? {
        let scope = scope(&context, &pinned, args.app.as_deref())?;
        let _lock = pinned.pins.lock()?;
        match lists::get(&pinned.maps, (scope, args.prefix))? {
            Some(entry) if entry.source == Source::Document => bail!(
                "{} is listed in the documents\n  help: take it out there (`spectrum allow {0}` \
                 overrides a global block for now)",
                args.prefix
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
    done.print(global)
}

struct Listing<'a> {
    prefix: IpNet,
    action: Action,
    lifetime: Option<Duration>,
    app: Option<&'a str>,
}

impl Listing<'_> {
    fn put(&self, global: &GlobalArgs) -> Result<ExitCode> {
        let context = Context::load(&global.config);
        let mut interfaces = Vec::new();
        for mut pinned in context.pinned()? {
            let scope = scope(&context, &pinned, self.app)?;
            self.refuse_useless(&context, scope)?;
            let _lock = pinned.pins.lock()?;
            let key = (scope, self.prefix);
            if let Some(entry) = lists::get(&pinned.maps, key)?
                && entry.source == Source::Document
                && entry.action == self.action
            {
                bail!("{} is listed already, in the documents", self.prefix);
            }
            lists::put(&mut pinned.maps, key, self.action, self.lifetime)?;
            interfaces.push(pinned.interface.clone());
        }
        let done = Done {
            action: match self.action {
                Action::Block => "blocked",
                Action::Allow => "allowed",
            },
            prefix: self.prefix,
            app: self.app.map(ToOwned::to_owned),
            interfaces,
            expires: self.lifetime.map(|lifetime| Timestamp::now() + lifetime),
        };
        done.print(global)
    }

    /// An entry on the allowlist of an app that admits everyone would seem to do something.
    fn refuse_useless(&self, context: &Context, scope: u32) -> Result<()> {
        let (Action::Allow, Some(name)) = (self.action, self.app) else {
            return Ok(());
        };
        debug_assert_ne!(scope, GLOBAL_SCOPE);
        if context.app(name)?.protection.allow.is_empty() {
            bail!(
                "{name} has no allowlist: it admits every source that is not blocked\n  help: \
                 give it one (`allow = […]` in its [protection]), or leave out --app to exempt \
                 {} from the global blocklist",
                self.prefix
            );
        }
        Ok(())
    }
}

impl Done {
    fn print(&self, global: &GlobalArgs) -> Result<ExitCode> {
        output::print(global.output, self, || {
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
