//! From what the filters held to what they should: in steps, of which those that take long are done
//! beside the main loop.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use super::{
    Daemon, Loaded, note,
    shield::Prepared,
    watch::Watch,
    work::{Cause, Documents, Done, Goal},
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

    /// Applies what has become of the addresses of the interfaces; what has failed is tried again
    /// with the rest.
    pub(super) fn follow_addresses(&mut self) {
        match self.shield.has_other_addresses(&self.config) {
            Ok(true) if !self.work.is_owed() => self.want(Cause::Others),
            Ok(_) => {}
            Err(error) => log::error!("cannot follow the addresses of the interfaces: {error:#}"),
        }
    }

    fn begin(&mut self) {
        match self.work.next() {
            Some(Cause::Documents(why)) => {
                log::info!("reloading: {why}");
                self.work
                    .load(self.options.clone(), self.tls.clone(), self.others.known());
            }
            Some(Cause::Others) => {
                let brief = self.shield.brief(self.others.say(&self.config));
                self.work
                    .prepare(Goal::Others(Arc::clone(&self.config)), brief);
            }
            None => {}
        }
    }

    /// Goes on with what one step has done.
    pub(super) async fn go_on(&mut self, done: Done) {
        match done {
            Done::Loaded(Ok(documents)) => {
                let Documents { loaded, others } = documents.as_ref();
                let config = &loaded.config;
                self.warn_of_restart(config);
                let brief = self.shield.brief(self.others.will_say(others, config));
                self.work.prepare(Goal::Documents(documents), brief);
            }
            Done::Loaded(Err(error)) => log::error!("nothing changed: {error:#}"),
            Done::Prepared(Goal::Others(config), prepared) => {
                match prepared.and_then(|prepared| self.shield.apply(&config, prepared)) {
                    Ok(()) => self.settle(),
                    Err(error) => {
                        self.others.refuse(&error);
                        log::error!(
                            "cannot take over what feeds list, databases know, and addresses the \
                             interfaces have: {error:#}"
                        );
                    }
                }
            }
            Done::Prepared(Goal::Documents(documents), prepared) => {
                let applied = match prepared {
                    Ok(prepared) => self.apply(*documents, prepared).await,
                    Err(error) => Err(error),
                };
                match applied {
                    Ok(()) => self.settle(),
                    Err(error) => log::error!("nothing changed: {error:#}"),
                }
            }
        }
        self.begin();
    }

    /// The filters have what was prepared; what has changed since is to come.
    fn settle(&mut self) {
        if self.work.settle() {
            self.others.settle();
        }
        self.follow_addresses();
    }

    /// Lets documents take effect, or says why not and changes nothing.
    async fn apply(&mut self, documents: Documents, prepared: Prepared) -> Result<()> {
        let Documents { loaded, others } = documents;
        let Loaded { config, tls } = loaded;
        self.bypass.ensure(&config, &mut self.shield)?;
        let changes = self.proxy.apply(&config.apps, &tls).await?;
        self.bypass.release(&config.host.interfaces);
        if let Err(error) = self.shield.apply(&config, prepared) {
            let back = self.proxy.apply(&self.config.apps, &self.tls).await;
            note(back.map(drop).map_err(Into::into), "cannot go back");
            // Some of the filters may hold some of it.
            self.work.want(Cause::Others);
            return Err(error);
        }
        self.bypass.follow(&self.shield);
        self.others.adopt(others, &config);
        self.events.learn(self.others.databases.places());
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
        self.keep_handshake();
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
            ("dns_servers", old.dns_servers != new.dns_servers),
        ];
        for (field, _) in fixed.iter().filter(|(_, changed)| *changed) {
            log::warn!("{field} takes effect at the next start");
        }
    }
}
