//! Counters, summed over the CPUs.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spectrum_common::{
    address::Address,
    app::HOST_SLOT,
    counters::{AppCounters, Counter},
    event::EventBudget,
    maps as names,
    reason::{ByReason, Reason},
    source::Source,
};
use spectrum_ebpf::limits::Account;

use super::{error::Error, maps::Maps};
use crate::config::AppId;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
}

impl Total {
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl From<Counter> for Total {
    fn from(counter: Counter) -> Self {
        Self {
            packets: counter.packets,
            bytes: counter.bytes,
        }
    }
}

/// The counters of one app, or of the host, at an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Passed without objection.
    pub passed: Total,
    /// SYNs that were answered with a cookie in place of the app.
    pub challenged: Total,
    /// Since when they are; absent if SYNs go to the app.
    pub challenged_since: Option<Timestamp>,
    /// Since when there have been more segments of no connection than may pass; absent if there are
    /// not, or if none may.
    pub strays_since: Option<Timestamp>,
    /// By the name of the reason; only those that ever occurred.
    pub dropped: BTreeMap<String, Total>,
    /// Passed, though a monitored rule would have dropped it.
    pub monitored: BTreeMap<String, Total>,
}

impl Snapshot {
    /// Adds what another interface counted.
    pub fn merge(&mut self, other: &Self) {
        self.passed.add(other.passed);
        self.challenged.add(other.challenged);
        for (mine, theirs) in [
            (&mut self.challenged_since, other.challenged_since),
            (&mut self.strays_since, other.strays_since),
        ] {
            *mine = [*mine, theirs].into_iter().flatten().min();
        }
        for (mine, theirs) in [
            (&mut self.dropped, &other.dropped),
            (&mut self.monitored, &other.monitored),
        ] {
            for (reason, total) in theirs {
                mine.entry(reason.clone()).or_default().add(*total);
            }
        }
    }

    fn add_cpu(&mut self, counters: &AppCounters) {
        self.passed.add(counters.passed.into());
        self.challenged.add(counters.challenged.into());
        add_reasons(&mut self.dropped, &counters.dropped);
        add_reasons(&mut self.monitored, &counters.monitored);
    }
}

fn add_reasons(totals: &mut BTreeMap<String, Total>, cells: &ByReason<Counter>) {
    for &reason in Reason::ALL {
        let cell = *cells.get(reason);
        if cell != Counter::default() {
            totals
                .entry(reason.name().to_owned())
                .or_default()
                .add(cell.into());
        }
    }
}

/// What became of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTotals {
    pub sent: u64,
    /// Packets without an event, because the budget of the second was used up.
    pub skipped: u64,
    /// Events that found the ring buffer full.
    pub lost: u64,
}

impl EventTotals {
    fn sum<'a>(cpus: impl Iterator<Item = &'a EventBudget>) -> Self {
        cpus.fold(Self::default(), |sum, cpu| Self {
            sent: sum.sent + cpu.sent,
            skipped: sum.skipped + cpu.skipped,
            lost: sum.lost + cpu.lost,
        })
    }
}

/// One source at one app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTotals {
    /// For IPv6 the first address of its /64.
    pub source: IpAddr,
    /// The app's slot.
    pub slot: u32,
    pub packets: u64,
    pub bytes: u64,
    /// Packets over a limit.
    pub limited: u64,
}

impl Maps {
    /// The counters of packets that belong to no app.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn host_counters(&self) -> Result<Snapshot, Error> {
        self.counters(HOST_SLOT)
    }

    /// Packets of an app that a CPU has met since it sampled one; 0 if the kernel does not tell.
    pub(super) fn packets_since_sample(&self, slot: u32, cpu: u16) -> u32 {
        let counters = self.counters.get(&slot, 0).ok();
        let of_cpu = counters.and_then(|all| Some(all.get(usize::from(cpu))?.pace.since));
        of_cpu.unwrap_or_default()
    }

    /// The counters of each app.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn app_counters(&self) -> Result<BTreeMap<AppId, Snapshot>, Error> {
        let apps = self.apps_in_use()?;
        let counters = apps.into_iter().map(|(slot, app)| {
            let timestamp = |time| Timestamp::try_from(time).ok();
            let snapshot = Snapshot {
                challenged_since: self.challenged_since(slot, &app)?.and_then(timestamp),
                strays_since: self.strays_since(slot, &app)?.and_then(timestamp),
                ..self.counters(slot)?
            };
            Ok((AppId(app.id), snapshot))
        });
        counters.collect()
    }

    /// The counters of a slot.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn counters(&self, slot: u32) -> Result<Snapshot, Error> {
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(Error::map(names::COUNTERS, "read"))?;
        let mut snapshot = Snapshot::default();
        cpus.iter().for_each(|cpu| snapshot.add_cpu(cpu));
        Ok(snapshot)
    }

    /// The slot of each app.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn slots(&self) -> Result<BTreeMap<AppId, u32>, Error> {
        let apps = self.apps_in_use()?;
        Ok(apps
            .into_iter()
            .map(|(slot, app)| (AppId(app.id), slot))
            .collect())
    }

    /// What became of events, over all CPUs.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn event_totals(&self) -> Result<EventTotals, Error> {
        let cpus = self.event_budget.get(&0, 0);
        let cpus = cpus.map_err(Error::map(names::EVENT_BUDGET, "read"))?;
        Ok(EventTotals::sum(cpus.iter()))
    }

    /// The same for samples.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn sample_totals(&self) -> Result<EventTotals, Error> {
        let cpus = self.sample_budget.get(&0, 0);
        let cpus = cpus.map_err(Error::map(names::SAMPLE_BUDGET, "read"))?;
        Ok(EventTotals::sum(cpus.iter()))
    }

    /// Every source in the table; reads all of it, so not for each second.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn sources(&self) -> Result<Vec<SourceTotals>, Error> {
        let mut sources = Vec::new();
        for set in self.sources.iter() {
            let set = set.map_err(Error::map(names::SOURCES, "read"))?;
            let used = set
                .sources
                .iter()
                .zip(set.tags)
                .filter(|(_, tag)| *tag != 0);
            sources.extend(used.map(|(source, _)| totals(source)));
        }
        Ok(sources)
    }

    /// What the app at `slot` has counted of a source; `None` if it has not been seen lately.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn source_at(&self, source: IpAddr, slot: u32) -> Result<Option<SourceTotals>, Error> {
        let seed = self.settings()?.hash_seed;
        let account = Account::new(&Address::from(source), slot, seed);
        let set = self
            .sources
            .get(&account.set_index(), 0)
            .map_err(Error::map(names::SOURCES, "read"))?;
        Ok(account.find(&set).map(totals))
    }

    /// The busiest sources, most packets first.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn top_sources(&self, count: usize) -> Result<Vec<SourceTotals>, Error> {
        let mut sources = self.sources()?;
        sources.sort_unstable_by_key(|source| std::cmp::Reverse(source.packets));
        sources.truncate(count);
        Ok(sources)
    }
}

fn totals(source: &Source) -> SourceTotals {
    let Source {
        address,
        app,
        packets,
        bytes,
        limited,
        ..
    } = *source;
    SourceTotals {
        source: IpAddr::from(address),
        slot: app,
        packets,
        bytes,
        limited,
    }
}
