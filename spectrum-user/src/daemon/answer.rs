//! What the daemon answers to who asks at the control socket.

use std::ops::ControlFlow;

use anyhow::Result;

use super::{Daemon, others};
use crate::{
    config::AppId,
    control::{Reply, Request},
    status::{self, DaemonStatus, Lists, Status},
};

impl Daemon {
    /// Breaks off once another daemon has taken over.
    pub(super) async fn answer(&mut self, request: Request, reply: Reply) -> ControlFlow<()> {
        match request {
            Request::Drain { apps, end } => {
                let drained = self.drain(&apps, end).await;
                reply.send(drained).await;
            }
            Request::Upgrade => self.upgrade(reply).await,
            Request::Succeed => {
                if self.give_way(reply).await {
                    return ControlFlow::Break(());
                }
            }
            Request::Status => reply.send(self.status()).await,
            Request::AcceptMitigation { id } => {
                reply
                    .send(self.mitigator.accept(id, &mut self.shield))
                    .await;
            }
            Request::RemoveMitigation { id } => {
                reply
                    .send(self.mitigator.remove(id, &mut self.shield))
                    .await;
            }
            Request::Lists => reply.send(Ok(self.lists())).await,
            Request::RefreshFeeds { name } => {
                reply.send(Ok(self.refresh_lists(name.as_deref()))).await;
            }
            Request::Capture { filter } => {
                let names = self.shield.names();
                self.captures.start(&filter, &self.config, names, reply);
            }
        }
        ControlFlow::Continue(())
    }

    fn lists(&self) -> Lists {
        Lists {
            feeds: self.others.feeds.statuses(),
            databases: self.others.databases.statuses(),
            documents: others::documented(&self.config),
            operator: self.shield.operator_entries(),
        }
    }

    fn status(&self) -> Result<Status> {
        let names = self.shield.slots()?;
        let rules = self.shield.rule_hits()?;
        let mut apps = status::app_statuses(
            Some(&self.config),
            self.shield.app_counters()?,
            &rules,
            self.proxy.snapshot(),
        );
        self.mitigator.describe(&mut apps, &self.shield)?;
        self.bypass.describe(&self.config, &mut apps);
        for app in &mut apps {
            app.is_drained = AppId::parse(&app.id).is_some_and(|id| self.drained.contains(&id));
        }
        let name = |slot| {
            let id = names.get(&slot)?;
            let app = self.config.apps.iter().find(|app| app.id == *id)?;
            Some(app.name.clone())
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon: DaemonStatus {
                running: true,
                pid: Some(std::process::id()),
                started: Some(self.started),
                configured: Some(self.configured),
                events_lost: self.events.lost(),
            },
            interfaces: self.shield.interfaces()?,
            rules: status::host_rules(Some(&self.config), &rules),
            apps,
            databases: self.others.databases.statuses(),
            recent_drops: self.recent.named(name),
        })
    }
}
