//! From the documents that were to those that are.

use anyhow::Result;
use jiff::Timestamp;

use super::{Daemon, lists, load, note, watch::Watch};
use crate::config::Config;

impl Daemon {
    /// Applies what changed in the documents, or says why not and changes nothing.
    pub(super) async fn reload(&mut self, why: &str) {
        log::info!("reloading: {why}");
        match self.try_reload().await {
            Ok(()) => self.configured = Timestamp::now(),
            Err(error) => log::error!("nothing changed: {error:#}"),
        }
    }

    async fn try_reload(&mut self) -> Result<()> {
        let config = load(&self.options)?;
        self.warn_of_restart(&config);
        let changes = self.proxy.apply(&config.apps).await?;
        lists::follow(&mut self.feeds, &config);
        self.shield
            .follow_feeds(lists::of_feeds(&self.feeds, &config));
        if let Err(error) = self.shield.apply(&config) {
            lists::follow(&mut self.feeds, &self.config);
            self.shield
                .follow_feeds(lists::of_feeds(&self.feeds, &self.config));
            note(
                self.proxy
                    .apply(&self.config.apps)
                    .await
                    .map(|_| ())
                    .map_err(Into::into),
                "cannot go back",
            );
            note(self.shield.apply(&self.config), "cannot go back");
            return Err(error);
        }
        // What they asked for may be another app by now, or another interface.
        self.captures.end("its configuration has changed");
        note(self.follow_events(), "cannot follow the events");
        if config.host.apps_dir != self.config.host.apps_dir {
            self.watch = Watch::new(&self.options.config, &config.host.apps_dir)?;
        }
        self.mitigator.configure(&config, &mut self.shield);
        self.config = config;
        self.renew_sources();
        // New listeners take no answers to cookies yet.
        self.handshake.keep(&self.config, &mut self.shield);
        log::info!(
            "reloaded: {} apps added, {} updated, {} removed, {} unchanged",
            changes.added.len(),
            changes.updated.len(),
            changes.removed.len(),
            changes.unchanged.len()
        );
        Ok(())
    }

    fn warn_of_restart(&self, config: &Config) {
        let (old, new) = (&self.config.host, &config.host);
        let fixed = [
            ("pin_dir", old.pin_dir != new.pin_dir),
            ("control_socket", old.control_socket != new.control_socket),
            ("workers", old.workers != new.workers),
            ("[events] output", old.events != new.events),
            ("drain", old.drain != new.drain),
        ];
        for (field, _) in fixed.iter().filter(|(_, changed)| *changed) {
            log::warn!("{field} takes effect at the next start");
        }
    }
}
