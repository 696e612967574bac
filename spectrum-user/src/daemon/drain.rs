//! Apps that let nobody in while their connections go on: `spectrum drain`.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::Daemon;
use crate::config::AppId;

impl Daemon {
    /// Lets no client in to `apps` (by name or id; none: all) any more, or, at the `end`, in again.
    /// The names of the apps.
    pub(super) async fn drain(&mut self, apps: &[String], end: bool) -> Result<Vec<String>> {
        let meant = self.meant(apps)?;
        let ids = meant.iter().map(|(id, _)| *id);
        let mut drained = self.drained.clone();
        if end {
            let restored: HashSet<AppId> = ids.collect();
            drained.retain(|id| !restored.contains(id));
        } else {
            drained.extend(ids);
        }
        self.proxy.pause(drained.clone()).await?;
        self.drained = drained;
        let names: Vec<String> = meant.into_iter().map(|(_, name)| name).collect();
        let what = if end {
            "let clients in again"
        } else {
            "let no client in"
        };
        log::info!("asked to {what}: {}", names.join(", "));
        // New listeners take no answers to cookies yet.
        self.keep_handshake();
        Ok(names)
    }

    fn meant(&self, named: &[String]) -> Result<HashSet<(AppId, String)>> {
        let apps = &self.config.apps;
        for name in named {
            let is_known = |id: &str| {
                apps.iter()
                    .any(|app| app.name == id || app.id.to_string() == id)
            };
            if !is_known(name) {
                let known: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
                bail!(
                    "no app is called {name}\n  help: the apps are {}",
                    known.join(", ")
                );
            }
        }
        let is_meant = |name: &str, id: AppId| {
            let mut named = named.iter();
            named.len() == 0 || named.any(|meant| *meant == name || *meant == id.to_string())
        };
        let meant = apps.iter().filter(|app| is_meant(&app.name, app.id));
        Ok(meant.map(|app| (app.id, app.name.clone())).collect())
    }
}
