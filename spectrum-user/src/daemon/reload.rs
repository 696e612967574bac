//! From what the filters held to what they should: in steps, of which those that take long are done
//! beside the main loop.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use super::{
    Daemon, Loaded, lists, note, places,
    shield::{Brief, Prepared},
    watch::Watch,
    work::{Cause, Done},
};
use crate::config::Config;

impl Daemon {
    /// Applies what has changed, as soon as may be.
    pub(super) fn want(&mut self, cause: Cause) {
        self.work.want(cause);
        self.begin();
    }

    /// Applies what others say, if that has failed.
    pub(super) fn retry(&mut self) {
        self.work.want_what_is_owed();
        self.begin();
    }

    fn begin(&mut self) {
        match self.work.next() {
            Some(cause @ Cause::Documents(why)) => {
                log::info!("reloading: {why}");
                self.work
                    .load(cause, self.options.clone(), self.tls.clone());
            }
            Some(cause @ Cause::Others) => {
                let loaded = Loaded {
                    config: Arc::clone(&self.config),
                    tls: self.tls.clone(),
                };
                self.prepare(cause, loaded);
            }
            None => {}
        }
    }

    fn prepare(&mut self, cause: Cause, loaded: Loaded) {
        let brief = self.brief(&loaded.config);
        self.work.prepare(cause, loaded, brief);
    }

    /// What has to be known to work out what the filters should hold.
    fn brief(&self, config: &Config) -> Result<Brief> {
        let feeds = lists::of_feeds(&self.feeds, config);
        self.shield.brief(feeds, self.databases.places())
    }

    /// Follows what others keep and a configuration asks for.
    async fn follow_others(&mut self, config: &Config) {
        lists::follow(&mut self.feeds, config);
        places::follow(&mut self.databases, config).await;
    }

    /// Goes on with what one step has done.
    pub(super) async fn go_on(&mut self, done: Done) {
        match done {
            Done::Loaded(cause, Ok(loaded)) => {
                self.warn_of_restart(&loaded.config);
                self.follow_others(&loaded.config).await;
                self.prepare(cause, loaded);
            }
            Done::Loaded(_, Err(error)) => log::error!("nothing changed: {error:#}"),
            Done::Prepared(cause, loaded, prepared) => {
                let applied = match (cause, prepared) {
                    (Cause::Documents(_), Ok(prepared)) => self.apply(loaded, prepared).await,
                    (Cause::Others, Ok(prepared)) => self.shield.apply(&loaded.config, prepared),
                    (_, Err(error)) => Err(error),
                };
                match applied {
                    Ok(()) if self.work.settle() => self.feeds.settle(),
                    // Something has changed since: more is to come.
                    Ok(()) => {}
                    Err(error) => self.give_up(cause, &error).await,
                }
            }
        }
        self.begin();
    }

    async fn give_up(&mut self, cause: Cause, error: &anyhow::Error) {
        match cause {
            Cause::Others => {
                self.feeds.refuse(error);
                log::error!("cannot take over what feeds list and databases know: {error:#}");
            }
            Cause::Documents(_) => {
                self.follow_others(&Arc::clone(&self.config)).await;
                log::error!("nothing changed: {error:#}");
            }
        }
    }

    /// Lets documents take effect, or says why not and changes nothing.
    async fn apply(&mut self, loaded: Loaded, prepared: Prepared) -> Result<()> {
        let Loaded { config, tls } = loaded;
        let changes = self.proxy.apply(&config.apps, &tls).await?;
        if let Err(error) = self.shield.apply(&config, prepared) {
            let back = self.proxy.apply(&self.config.apps, &self.tls).await;
            note(back.map(drop).map_err(Into::into), "cannot go back");
            self.follow_others(&Arc::clone(&self.config)).await;
            let brief = self.brief(&self.config);
            let back = brief.and_then(|brief| brief.prepare(&self.config));
            let back = back.and_then(|prepared| self.shield.apply(&self.config, prepared));
            note(back, "cannot go back");
            return Err(error);
        }
        // What they asked for may be another app by now, or another interface.
        self.captures.end("its configuration has changed");
        note(self.follow_events(), "cannot follow the events");
        if config.host.apps_dir != self.config.host.apps_dir {
            match Watch::new(&self.options.config, &config.host.apps_dir) {
                Ok(watch) => self.watch = watch,
                Err(error) => note(Err(error), "cannot watch the documents of the apps"),
            }
        }
        self.mitigator.configure(&config, &mut self.shield);
        self.config = config;
        self.tls = tls;
        self.warn_of_certificates();
        self.configured = Timestamp::now();
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
