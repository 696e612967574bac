//! What the operator lists by hand, on top of the documents.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use spectrum_tests::wait;
use spectrum_user::{
    config::Config,
    dataplane::{
        Filter, clock,
        lists::{self, Action},
    },
};

/// App (`None`: all apps), prefix, and what it does.
type Entry = (Option<&'static str>, &'static str, Action);

/// Over the documents of [`generator::policy`](crate::generator::policy): new prefixes, wider and
/// narrower ones, the same one the other way around, and an app without an entry of its own.
const LASTING: [Entry; 7] = [
    (None, "203.0.113.5/32", Action::Block),
    (None, "198.18.1.0/24", Action::Allow),
    (None, "198.19.4.4/32", Action::Allow),
    (None, "2001:db9:1::5/128", Action::Block),
    (Some("ssh"), "100.64.0.0/24", Action::Allow),
    (Some("web"), "100.64.0.2/32", Action::Block),
    (Some("game"), "2001:db8:d::/64", Action::Block),
];

/// These are over before the first packet: what they hide holds again.
const EXPIRED: [Entry; 4] = [
    (None, "100.64.0.0/16", Action::Block),
    (None, "198.18.0.7/31", Action::Allow),
    (Some("web"), "198.19.3.0/29", Action::Allow),
    (Some("ssh"), "203.0.113.200/32", Action::Allow),
];

/// Puts the entries on the lists of `filter`; returns the documents that would say the same.
pub(crate) fn list(filter: &mut Filter, config: &Config) -> Result<Config> {
    for entry in LASTING {
        put(filter, config, entry, None)?;
    }
    for entry in EXPIRED {
        put(filter, config, entry, Some(Duration::from_secs(1)))?;
    }
    let end = clock::since_boot_s() + 1;
    wait::until("the entries expire", Duration::from_secs(10), || {
        ensure!(clock::since_boot_s() >= end);
        Ok(())
    })?;

    let mut config = config.clone();
    for (scope, prefix, action) in LASTING {
        let prefix: IpNet = prefix.parse()?;
        let (block, allow) = match scope {
            None => (&mut config.host.block, &mut config.host.allow),
            Some(name) => {
                let app = config.apps.iter_mut().find(|app| app.name == name);
                let rules = &mut Arc::make_mut(app.context(name)?).protection;
                (&mut rules.block, &mut rules.allow)
            }
        };
        block.retain(|other| *other != prefix);
        allow.retain(|other| *other != prefix);
        match action {
            Action::Block => block.push(prefix),
            Action::Allow => allow.push(prefix),
        }
    }
    Ok(config)
}

fn put(
    filter: &mut Filter,
    config: &Config,
    (scope, prefix, action): Entry,
    lifetime: Option<Duration>,
) -> Result<()> {
    let slot = match scope {
        None => 0,
        Some(name) => {
            let app = config.apps.iter().find(|app| app.name == name);
            filter.maps().slots()?[&app.context(name)?.id]
        }
    };
    let prefix: IpNet = prefix.parse()?;
    lists::put(filter.maps_mut(), (slot, prefix.trunc()), action, lifetime)?;
    Ok(())
}
