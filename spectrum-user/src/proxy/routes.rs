//! The origins of a client that names a host.

use std::{collections::HashMap, io, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};

use super::{
    account::Account,
    hostname::{self, MAX_LENGTH, Unread},
    origins::{OriginSnapshot, OriginState, Origins},
};
use crate::{
    config::{App, PortRange, Route, RouteBy, Routing, UnknownNames},
    event::{Status, TlsStatus},
};

/// The routes of an app.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) by: RouteBy,
    unknown: UnknownNames,
    /// In the order of the document.
    all: Vec<(Route, Origins)>,
    /// Indexes of `all`.
    by_host: HashMap<String, usize>,
}

/// What the operator sees of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    pub hosts: Vec<String>,
    pub origins: Vec<OriginSnapshot>,
}

/// Why a client gets no origin.
pub(super) enum Astray {
    /// It has gone away.
    Gone,
    /// It did not send what the route goes by, in time or at all.
    Silent,
    /// It named a host that is not served.
    Unknown,
}

impl Routes {
    /// Routes that `previous` has for one of the same hosts keep the state of their origins.
    pub(super) fn new(routing: &Routing, previous: Option<&Self>) -> Self {
        let known = previous.map_or(&[][..], |previous| &previous.all);
        let mut by_host = HashMap::new();
        let mut all = Vec::new();
        for (index, route) in routing.routes.iter().enumerate() {
            let same = known.iter().find(|(other, _)| {
                let mut hosts = other.hosts.iter();
                hosts.any(|host| route.hosts.contains(host))
            });
            let origins = Origins::new(&route.origins, same.map(|(_, origins)| origins));
            by_host.extend(route.hosts.iter().map(|host| (host.clone(), index)));
            all.push((route.clone(), origins));
        }
        Self {
            by: routing.by,
            unknown: routing.unknown,
            all,
            by_host,
        }
    }

    /// The origins for a client that names `host`; those of the app are `default`.
    pub(super) fn find<'a>(
        &'a self,
        host: Option<&str>,
        default: &'a Origins,
    ) -> Result<&'a Origins, Astray> {
        let index = host.and_then(|host| self.index(host));
        match index.and_then(|index| self.all.get(index)) {
            Some((_, origins)) => Ok(origins),
            None if self.unknown == UnknownNames::Default => Ok(default),
            None => Err(Astray::Unknown),
        }
    }

    /// A host itself before a wildcard, and the longest wildcard before others.
    fn index(&self, host: &str) -> Option<usize> {
        if let Some(index) = self.by_host.get(host) {
            return Some(*index);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(index) = self.by_host.get(&format!("*.{parent}")) {
                return Some(*index);
            }
            rest = parent;
        }
        None
    }

    pub(super) fn in_service(&self) -> impl Iterator<Item = &Arc<OriginState>> {
        self.all
            .iter()
            .flat_map(|(_, origins)| origins.in_service())
    }

    /// How many clients wait for an origin.
    pub(super) fn waiting(&self) -> usize {
        let origins = self.all.iter().map(|(_, origins)| origins);
        origins.map(Origins::waiting).sum()
    }

    pub(super) fn snapshot(&self, ports: PortRange) -> Vec<RouteSnapshot> {
        let snapshot = |(route, origins): &(Route, Origins)| RouteSnapshot {
            hosts: route.hosts.clone(),
            origins: origins.snapshot(ports),
        };
        self.all.iter().map(snapshot).collect()
    }

    /// Reads what a client sends first, and says where it goes. The bytes are for the origin.
    pub(super) async fn choose<'a>(
        &'a self,
        client: &TcpStream,
        account: &'a Account,
    ) -> Result<(&'a Origins, Vec<u8>), Astray> {
        let limit = account.app().timeouts.handshake;
        let read = timeout(limit, self.first_message(client)).await;
        let (host, bytes) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                log::debug!("{}: {}: {error}", account.app().name, account.client);
                return Err(Astray::Gone);
            }
            Err(_elapsed) => return Err(Astray::Silent),
        };
        if self.by == RouteBy::Tls {
            let name = host.as_deref().map(Arc::<str>::from);
            account.note_tls(|tls| tls.server_name = name);
        }
        let origins = self.find(host.as_deref(), &account.serving.origins)?;
        Ok((origins, bytes))
    }

    /// The host that is named, if any, and all that was read for it.
    async fn first_message(&self, client: &TcpStream) -> io::Result<(Option<String>, Vec<u8>)> {
        let mut bytes = Vec::new();
        loop {
            client.readable().await?;
            let mut chunk = [0; 2048];
            let room = chunk.len().min(MAX_LENGTH - bytes.len());
            match client.try_read(chunk.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let host = match self.by {
                RouteBy::Tls => hostname::of_tls(&bytes),
                RouteBy::Minecraft => hostname::of_minecraft(&bytes),
            };
            match host {
                Ok(host) => return Ok((host, bytes)),
                Err(Unread::Incomplete) if bytes.len() < MAX_LENGTH => {}
                // Something else may be spoken here as well.
                Err(_) => return Ok((None, bytes)),
            }
        }
    }
}

impl Astray {
    /// Closes the account of such a client.
    pub(super) fn close(self, account: &Account, by: RouteBy) {
        match (self, by) {
            (Self::Gone, _) => account.close(Status::CLIENT_RESET),
            (Self::Silent, RouteBy::Tls) => {
                account.note_tls(|tls| tls.client.status = TlsStatus::HandshakeFailed);
                account.tls_error(Status::CLIENT_HANDSHAKE_FAILED);
            }
            (Self::Unknown, RouteBy::Tls) => {
                account.note_tls(|tls| tls.client.status = TlsStatus::InvalidSni);
                account.tls_error(Status::BAD_SERVER_NAME);
            }
            (Self::Silent | Self::Unknown, RouteBy::Minecraft) => {
                account.filtered(Status::BAD_SERVER_NAME);
            }
        }
    }
}

/// The routes of an app, if it has any.
pub(super) fn of_app(app: &App, previous: Option<&Routes>) -> Option<Routes> {
    let routing = app.routing.as_ref()?;
    Some(Routes::new(routing, previous))
}
