//! What `spectrum status` shows: put together by the daemon, or from the pins alone while no
//! daemon runs.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::{AppId, Config, rule::Rule},
    dataplane::{
        AttachMode, Error, Maps, Pins,
        counters::{EventTotals, Snapshot},
        events::Drop,
        signatures::Hits,
    },
    feeds::FeedStatus,
    geo::DatabaseStatus,
    mitigation::{Evidence, View},
    proxy,
};

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub daemon: DaemonStatus,
    pub interfaces: Vec<InterfaceStatus>,
    /// Custom rules for all apps.
    pub rules: Vec<RuleStatus>,
    /// Sorted by name.
    pub apps: Vec<AppStatus>,
    /// Where addresses are; empty without a daemon.
    pub databases: Vec<DatabaseStatus>,
    /// The last packets of which there was an event, oldest first; empty without a daemon.
    pub recent_drops: Vec<RecentDrop>,
}

/// What `spectrum lists` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lists {
    pub feeds: Vec<FeedStatus>,
    /// Where addresses are.
    pub databases: Vec<DatabaseStatus>,
    /// Entries in the documents.
    pub documents: usize,
    /// Entries of `spectrum block` and `spectrum allow`.
    pub operator: usize,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub running: bool,
    pub pid: Option<u32>,
    pub started: Option<Timestamp>,
    /// When the configuration was last applied.
    pub configured: Option<Timestamp>,
    /// Connection events that were lost because the log could not keep up.
    pub events_lost: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    pub attached: bool,
    /// Packets that belong to no app.
    pub host: Snapshot,
    pub events: EventTotals,
    /// The same for samples of all packets.
    pub samples: EventTotals,
    /// Datagrams of sessions that were carried past the proxy, and those that were not, by reason.
    #[serde(default)]
    pub datagrams: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppStatus {
    pub id: String,
    pub name: String,
    /// As in the document: `tcp/22`.
    pub protocol: String,
    /// What the filters of all interfaces counted.
    pub filter: Snapshot,
    /// The app's own custom rules.
    pub rules: Vec<RuleStatus>,
    /// What the mitigation engine makes of the app; absent while no daemon runs, or if the app
    /// wants no mitigation.
    pub engine: Option<View>,
    /// What it has installed; empty while no daemon runs.
    pub mitigations: Vec<MitigationStatus>,
    /// It lets no client in, by `spectrum drain`.
    #[serde(default)]
    pub is_drained: bool,
    /// Which way its datagrams take; absent for TCP, and while no daemon runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPathStatus>,
    /// What the proxy counted; absent while no daemon runs.
    pub proxy: Option<proxy::AppSnapshot>,
}

/// Which way the datagrams of an app take, once a session has proved itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataPathStatus {
    /// `kernel` or `proxy`.
    pub path: String,
    /// Why not the kernel's.
    pub why: Option<String>,
}

/// A custom rule, and what it has matched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleStatus {
    pub id: u32,
    pub name: Option<String>,
    /// As in the document: `drop`, `rate-limit` or `pass`.
    pub action: String,
    pub mode: String,
    #[serde(flatten)]
    pub hits: Hits,
}

/// A signature that the mitigation engine installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MitigationStatus {
    pub id: u32,
    /// What the packets have in common.
    pub fingerprint: String,
    /// `monitor` or `enforce`.
    pub mode: String,
    pub installed: Option<Timestamp>,
    /// Absent: it was accepted, and stays.
    pub expires: Option<Timestamp>,
    #[serde(flatten)]
    pub hits: Hits,
    /// Absent for one that an earlier run installed.
    pub evidence: Option<Evidence>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecentDrop {
    pub interface: Option<String>,
    /// Name of the app; absent for packets that belong to none.
    pub app: Option<String>,
    #[serde(flatten)]
    pub drop: Drop,
}

impl InterfaceStatus {
    /// Reads what the maps of `name` say.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn read(name: &str, maps: &Maps) -> Result<Self, Error> {
        let settings = maps.settings()?;
        let mode = AttachMode::from_number(settings.attach_mode);
        Ok(Self {
            name: name.to_owned(),
            mode: mode.map_or("unknown", AttachMode::name).to_owned(),
            attached: mode.is_some(),
            host: maps.host_counters()?,
            events: maps.event_totals()?,
            samples: maps.sample_totals()?,
            datagrams: datagrams(maps)?,
        })
    }
}

fn datagrams(maps: &Maps) -> Result<BTreeMap<String, u64>, Error> {
    let counts = maps.forward_counts()?;
    let named = [
        ("carried", counts.carried),
        ("odd_shape", counts.odd_shape),
        ("unfinished", counts.unfinished),
        ("astray", counts.astray),
        ("renewal", counts.renewal),
        ("expired", counts.expired),
        ("no_route", counts.no_route),
        ("too_big", counts.too_big),
        ("no_neighbour", counts.no_neighbour),
        ("no_port", counts.no_port),
    ];
    let there = named.into_iter().filter(|(_, count)| *count > 0);
    Ok(there
        .map(|(name, count)| (name.to_owned(), count))
        .collect())
}

impl Status {
    /// From the pins below `pin_dir`; `config` gives the apps their names.
    ///
    /// # Errors
    /// Pins cannot be opened or read.
    pub fn from_pins(pin_dir: &Path, config: Option<&Config>) -> Result<Self, Error> {
        let mut interfaces = Vec::new();
        let mut all = Vec::new();
        for name in Pins::interfaces(pin_dir) {
            let maps = Pins::new(pin_dir, &name).open_maps()?;
            interfaces.push(InterfaceStatus::read(&name, &maps)?);
            all.push(maps);
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon: DaemonStatus::default(),
            interfaces,
            rules: host_rules(config, &merge_rules(&all)?),
            apps: app_statuses(config, merge_apps(&all)?, &merge_rules(&all)?, Vec::new()),
            databases: Vec::new(),
            recent_drops: Vec::new(),
        })
    }
}

/// The counters of each app, over all interfaces.
///
/// # Errors
/// The kernel refuses a look-up.
pub fn merge_apps<'a>(
    maps: impl IntoIterator<Item = &'a Maps>,
) -> Result<BTreeMap<AppId, Snapshot>, Error> {
    let mut merged: BTreeMap<AppId, Snapshot> = BTreeMap::new();
    for maps in maps {
        for (id, counters) in maps.app_counters()? {
            merged.entry(id).or_default().merge(&counters);
        }
    }
    Ok(merged)
}

/// What each custom rule has matched, by its app (`None`: the host) and its id.
pub type RuleHits = BTreeMap<(Option<AppId>, u32), Hits>;

/// The hits of each rule, over all interfaces.
///
/// # Errors
/// The kernel refuses a look-up.
pub fn merge_rules<'a>(maps: impl IntoIterator<Item = &'a Maps>) -> Result<RuleHits, Error> {
    let mut merged = RuleHits::new();
    for maps in maps {
        let ids: BTreeMap<u32, AppId> = maps
            .slots()?
            .into_iter()
            .map(|(id, slot)| (slot, id))
            .collect();
        for ((slot, rule), hits) in maps.rule_hits()? {
            let app = ids.get(&slot).copied();
            merged.entry((app, rule)).or_default().add(hits);
        }
    }
    Ok(merged)
}

/// The custom rules for all apps.
pub fn host_rules(config: Option<&Config>, hits: &RuleHits) -> Vec<RuleStatus> {
    let rules = config.map(|config| config.host.rules.as_slice());
    rule_statuses(rules.unwrap_or_default(), None, hits)
}

fn rule_statuses(rules: &[Rule], app: Option<AppId>, hits: &RuleHits) -> Vec<RuleStatus> {
    let statuses = rules.iter().map(|rule| RuleStatus {
        id: rule.id,
        name: rule.name.clone(),
        action: rule.action.kind().word().to_owned(),
        mode: rule.mode.word().to_owned(),
        hits: hits.get(&(app, rule.id)).copied().unwrap_or_default(),
    });
    statuses.collect()
}

/// Joins what filter and proxy know of each app.
pub fn app_statuses(
    config: Option<&Config>,
    mut filter: BTreeMap<AppId, Snapshot>,
    rules: &RuleHits,
    proxy: Vec<proxy::AppSnapshot>,
) -> Vec<AppStatus> {
    let mut proxy: BTreeMap<String, proxy::AppSnapshot> =
        proxy.into_iter().map(|app| (app.id.clone(), app)).collect();
    let configured = config
        .map(|config| config.apps.as_slice())
        .unwrap_or_default();
    let mut apps: Vec<AppStatus> = configured
        .iter()
        .map(|app| {
            let id = app.id.to_string();
            AppStatus {
                name: app.name.clone(),
                protocol: app.protocol(),
                filter: filter.remove(&app.id).unwrap_or_default(),
                rules: rule_statuses(&app.protection.rules, Some(app.id), rules),
                engine: None,
                mitigations: Vec::new(),
                is_drained: false,
                data_path: None,
                proxy: proxy.remove(&id),
                id,
            }
        })
        .collect();
    // Known to the filter only: the documents changed while no daemon ran, or cannot be read.
    apps.extend(filter.into_iter().map(|(id, filter)| AppStatus {
        id: id.to_string(),
        name: id.to_string(),
        protocol: String::new(),
        filter,
        rules: Vec::new(),
        engine: None,
        mitigations: Vec::new(),
        is_drained: false,
        data_path: None,
        proxy: None,
    }));
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    apps
}
