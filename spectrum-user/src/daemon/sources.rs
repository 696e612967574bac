//! What the proxy has learned of sources, for the filter.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use anyhow::Result;

use super::shield::Shield;
use crate::{
    config::{AppId, Config, Mode},
    proxy::Proxy,
};

/// Notes who has proved to be real, and who holds a TCP connection for which a UDP app asks.
pub(super) fn learn(
    config: &Config,
    proxy: &Proxy,
    shield: &Shield,
    sources: HashSet<(AppId, IpAddr)>,
) -> Result<()> {
    let asking = asking(config);
    let mut sessions = Vec::new();
    for &(app, source) in &sources {
        if asking.contains_key(&app) {
            sessions.push((app, source, proxy.is_connected(app, source)));
        }
    }
    shield.prove(&with_proofs_for(&asking, sources))?;
    shield.note_sessions(&sessions)
}

/// The same for all who are connected now: their proofs grow old, and a filter may be new.
pub(super) fn renew(
    config: &Config,
    connected: Vec<(AppId, IpAddr)>,
    shield: &Shield,
) -> Result<()> {
    let asking = asking(config);
    let mut sessions = connected.clone();
    sessions.retain(|(app, _)| asking.contains_key(app));
    shield.prove(&with_proofs_for(&asking, connected))?;
    shield.replace_sessions(&sessions)
}

/// The UDP apps that ask for a connection with each TCP app.
type Asking = BTreeMap<AppId, Vec<AppId>>;

fn asking(config: &Config) -> Asking {
    let mut asking = Asking::new();
    for app in &config.apps {
        let Some(session) = &app.protection.tcp_session else {
            continue;
        };
        let wanted = config.apps.iter().find(|other| other.name == session.app);
        if let Some(wanted) = wanted.filter(|_| session.mode != Mode::Off) {
            asking.entry(wanted.id).or_default().push(app.id);
        }
    }
    asking
}

/// Who is connected to a TCP app is real to the apps that ask for that, too.
fn with_proofs_for(
    asking: &Asking,
    sources: impl IntoIterator<Item = (AppId, IpAddr)>,
) -> Vec<(AppId, IpAddr)> {
    let mut proofs = Vec::new();
    for (app, source) in sources {
        proofs.push((app, source));
        let others = asking.get(&app).into_iter().flatten();
        proofs.extend(others.map(|&other| (other, source)));
    }
    proofs
}
