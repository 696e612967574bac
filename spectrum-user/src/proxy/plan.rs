//! What has to change so that a list of apps is served. Pure.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{ApplyError, Changes};
use crate::config::{App, AppId, Connectivity, EdgeIps, Transport};

/// An edge address as a socket sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Bind {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
}

/// What is served now.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) apps: Vec<Arc<App>>,
    pub(super) listeners: HashMap<Bind, AppId>,
}

/// The way from one state to the next.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) add: Vec<&'a Arc<App>>,
    /// Known apps with another document.
    pub(super) update: Vec<&'a Arc<App>>,
    pub(super) remove: Vec<AppId>,
    pub(super) open: Vec<(Bind, &'a Arc<App>)>,
    /// Listeners that go over to another app.
    pub(super) hand_over: Vec<(Bind, AppId)>,
    pub(super) close: Vec<Bind>,
    /// Listeners of apps that are paused: their sessions go on for as long as they like.
    pub(super) pause: Vec<Bind>,
    pub(super) changes: Changes,
}

impl<'a> Plan<'a> {
    /// No client gets in to `paused` apps.
    ///
    /// # Errors
    /// Two of `apps` have the same id, or the same edge address.
    pub(super) fn new(
        served: &'a Served,
        apps: &'a [Arc<App>],
        paused: &HashSet<AppId>,
        ipv6: bool,
    ) -> Result<Self, ApplyError> {
        let mut wanted = wanted_listeners(apps, ipv6)?;
        let of_paused: HashSet<Bind> = wanted
            .extract_if(|_, app| paused.contains(&app.id))
            .map(|(bind, _)| bind)
            .collect();
        let mut plan = Self::default();
        for app in apps {
            let name = app.name.clone();
            match served.apps.iter().find(|known| known.id == app.id) {
                None => {
                    plan.add.push(app);
                    plan.changes.added.push(name);
                }
                Some(known) if known == app => plan.changes.unchanged.push(name),
                Some(_) => {
                    plan.update.push(app);
                    plan.changes.updated.push(name);
                }
            }
        }
        for known in &served.apps {
            if !apps.iter().any(|app| app.id == known.id) {
                plan.remove.push(known.id);
                plan.changes.removed.push(known.name.clone());
            }
        }
        for (bind, app) in &wanted {
            match served.listeners.get(bind) {
                None => plan.open.push((*bind, app)),
                Some(&id) if id != app.id => plan.hand_over.push((*bind, app.id)),
                Some(_) => {}
            }
        }
        // An error names the lowest address that cannot be bound, not any.
        plan.open.sort_by_key(|(bind, _)| bind.address);
        let gone = served
            .listeners
            .keys()
            .filter(|bind| !wanted.contains_key(bind))
            .copied();
        (plan.pause, plan.close) = gone.partition(|bind| of_paused.contains(bind));
        Ok(plan)
    }
}

fn wanted_listeners(apps: &[Arc<App>], ipv6: bool) -> Result<HashMap<Bind, &Arc<App>>, ApplyError> {
    let mut wanted: HashMap<Bind, &Arc<App>> = HashMap::new();
    let mut ids = HashMap::new();
    for app in apps {
        if let Some(other) = ids.insert(app.id, app) {
            return Err(ApplyError::SameId {
                app: app.name.clone(),
                other: other.name.clone(),
            });
        }
        for bind in binds(app, ipv6) {
            if let Some(other) = wanted.insert(bind, app) {
                return Err(ApplyError::SameAddress {
                    app: app.name.clone(),
                    other: other.name.clone(),
                    address: bind.to_string(),
                });
            }
        }
    }
    Ok(wanted)
}

/// The addresses on which `app` listens. Without `ipv6` on this host, "all" means IPv4.
pub(super) fn binds(app: &App, ipv6: bool) -> impl Iterator<Item = Bind> {
    let v4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let ips = match &app.edge_ips {
        EdgeIps::Static(ips) => ips.clone(),
        EdgeIps::Dynamic(Connectivity::All) if ipv6 => vec![v4, v6],
        EdgeIps::Dynamic(Connectivity::All | Connectivity::Ipv4) => vec![v4],
        EdgeIps::Dynamic(Connectivity::Ipv6) => vec![v6],
    };
    let (transport, ports) = (app.transport, app.ports);
    (ports.first..=ports.last).flat_map(move |port| {
        let at = move |ip| Bind {
            transport,
            address: SocketAddr::new(ip, port),
        };
        ips.clone().into_iter().map(at)
    })
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{transport} {}", self.address)
    }
}

#[cfg(test)]
pub(super) mod tests;
