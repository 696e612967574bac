//! The only reader of what `spectrum status -o json` prints.

use std::{collections::BTreeMap, net::SocketAddr, ops::AddAssign};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What the filter did: for an app, or for packets of no app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Filter {
    pub passed: Counter,
    /// SYNs that were answered with a cookie.
    #[serde(default)]
    pub challenged: Counter,
    /// Since when they are; `None` if they are not.
    #[serde(default)]
    pub challenged_since: Option<String>,
    pub dropped: BTreeMap<String, Counter>,
    pub monitored: BTreeMap<String, Counter>,
}

impl Filter {
    /// Packets dropped for a reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.dropped
            .get(reason)
            .map_or(0, |counter| counter.packets)
    }

    /// Packets monitored for a reason.
    pub fn monitored(&self, reason: &str) -> u64 {
        self.monitored
            .get(reason)
            .map_or(0, |counter| counter.packets)
    }

    /// The reasons for which packets were dropped.
    pub fn reasons(&self) -> Vec<&str> {
        let counted = self
            .dropped
            .iter()
            .filter(|(_, counter)| counter.packets > 0);
        counted.map(|(reason, _)| reason.as_str()).collect()
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.challenged += other.challenged;
        for (sum, part) in [
            (&mut self.dropped, &other.dropped),
            (&mut self.monitored, &other.monitored),
        ] {
            for (reason, counter) in part {
                *sum.entry(reason.clone()).or_default() += *counter;
            }
        }
    }
}

/// What the proxy did for an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Proxy {
    pub active: u64,
    #[serde(rename = "connections")]
    pub total: u64,
    pub ingress_bytes: u64,
    pub egress_bytes: u64,
    pub amplification_dropped: u64,
    pub amplification_monitored: u64,
    /// Clients that wait for a place at an origin.
    #[serde(default)]
    pub waiting: u64,
    /// Those that had to so far.
    #[serde(default)]
    pub queued: u64,
    #[serde(default)]
    pub bandwidth_dropped: u64,
    /// What was refused, by the limit that was reached.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// What became of the name that leads to them.
    #[serde(default)]
    pub lookup: Option<Lookup>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Lookup {
    pub answered: Option<String>,
    pub failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Origin {
    pub address: SocketAddr,
    pub state: OriginState,
    pub active: u64,
    /// What its last health check has found.
    #[serde(default)]
    pub check: Option<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Check {
    pub passed: bool,
}

/// Whether an origin gets connections.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OriginState {
    /// `up`, `slow_start`, `paused`, `down`, `maintenance`.
    pub is: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    pub name: String,
    pub mode: String,
    pub attached: bool,
    /// Packets of no app.
    pub host: Filter,
    /// Datagrams of known sessions: carried past the proxy, or why not.
    #[serde(default)]
    pub datagrams: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct App {
    pub id: String,
    pub name: String,
    pub protocol: String,
    pub filter: Filter,
    #[serde(default)]
    pub is_drained: bool,
    /// Which way its datagrams take.
    #[serde(default)]
    pub data_path: Option<DataPath>,
    /// Absent while no daemon runs.
    #[serde(default)]
    pub proxy: Option<Proxy>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DataPath {
    /// `kernel` or `proxy`.
    pub path: String,
    pub why: Option<String>,
}

impl App {
    /// # Errors
    /// No daemon runs.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy
            .as_ref()
            .with_context(|| format!("nobody proxies {}", self.name))
    }
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Status {
    pub interfaces: Vec<Interface>,
    pub apps: Vec<App>,
    /// The process id of the running daemon.
    pub daemon: Option<i32>,
}

impl Status {
    pub(super) fn parse(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            interfaces: Vec<Interface>,
            apps: Vec<App>,
            daemon: Daemon,
        }
        #[derive(Deserialize)]
        struct Daemon {
            running: bool,
            pid: Option<i32>,
        }
        let document: Document =
            serde_json::from_str(json).with_context(|| format!("reading status: {json}"))?;
        let Daemon { running, pid } = document.daemon;
        Ok(Self {
            interfaces: document.interfaces,
            apps: document.apps,
            daemon: pid.filter(|_| running),
        })
    }

    /// # Errors
    /// No app has the name.
    pub fn app(&self, name: &str) -> Result<&App> {
        let app = self.apps.iter().find(|app| app.name == name);
        app.with_context(|| format!("status does not know the app {name}"))
    }

    /// # Errors
    /// No interface has the name.
    pub fn interface(&self, name: &str) -> Result<&Interface> {
        let interface = self
            .interfaces
            .iter()
            .find(|interface| interface.name == name);
        interface.with_context(|| format!("status does not know the interface {name}"))
    }

    /// Datagrams of known sessions, over all interfaces, of which this became: `carried`, or a reason.
    pub fn datagrams(&self, what: &str) -> u64 {
        let interfaces = self.interfaces.iter();
        interfaces
            .filter_map(|interface| interface.datagrams.get(what))
            .sum()
    }

    /// The filter's counters over all apps and interfaces.
    pub fn filter(&self) -> Filter {
        let mut sum = Filter::default();
        let hosts = self.interfaces.iter().map(|interface| &interface.host);
        for part in hosts.chain(self.apps.iter().map(|app| &app.filter)) {
            sum.add(part);
        }
        sum
    }

    /// The proxy's counters over all apps.
    pub fn proxy(&self) -> Proxy {
        let mut sum = Proxy::default();
        for proxy in self.apps.iter().filter_map(|app| app.proxy.as_ref()) {
            sum.active += proxy.active;
            sum.total += proxy.total;
            sum.ingress_bytes += proxy.ingress_bytes;
            sum.egress_bytes += proxy.egress_bytes;
            sum.amplification_dropped += proxy.amplification_dropped;
            sum.amplification_monitored += proxy.amplification_monitored;
            sum.bandwidth_dropped += proxy.bandwidth_dropped;
        }
        sum
    }
}
