//! The filters of all shielded interfaces, as one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};

use super::addresses;
use crate::{
    config::{AppId, Config, SynAnswers},
    dataplane::{
        self, AttachMode, Error, Filter, Inherited, Terms,
        counters::Snapshot,
        events,
        forward_ports::Carrier,
        forwards::Table,
        lists::{self, FeedList},
        samples::{Sample, Samples},
        signatures::{Hits, Signature},
    },
    geo::Places,
    status::{InterfaceStatus, RuleHits, merge_apps, merge_rules},
};

/// The filters, and what they were told.
pub(super) struct Shield {
    filters: Vec<Filter>,
    /// Those that were unfiltered before this process began.
    fresh: Vec<String>,
    addresses: Vec<IpAddr>,
    /// By interface.
    taps: BTreeMap<String, Tap>,
    /// The flows that each carries, by interface.
    forwards: BTreeMap<String, Arc<Table>>,
}

/// What has to be known to work out what the filters should hold: on another thread, since that takes
/// long where lists are.
pub(super) struct Brief {
    filters: Vec<dataplane::Brief>,
    feeds: Vec<FeedList>,
    places: Arc<Places>,
}

/// What they should hold.
pub(super) struct Prepared {
    addresses: Vec<IpAddr>,
    feeds: Vec<FeedList>,
    places: Arc<Places>,
    filters: Vec<dataplane::Prepared>,
}

impl Brief {
    pub(super) fn prepare(self, config: &Config) -> Result<Prepared> {
        let addresses = addresses::of_interfaces(&config.host.interfaces)?;
        let others = (self.feeds.as_slice(), &self.places);
        let filters = self.filters.into_iter();
        let prepared = filters.map(|brief| brief.prepare(config, &addresses, others));
        Ok(Prepared {
            filters: prepared.collect::<Result<_, _>>()?,
            addresses,
            feeds: self.feeds,
            places: self.places,
        })
    }
}

/// A sampled packet, and whose it is.
pub(super) struct Seen {
    /// Index of [`Shield::names`].
    pub(super) interface: usize,
    /// `None`: of no app.
    pub(super) app: Option<AppId>,
    /// The source has proved to the app that it is real.
    pub(super) is_proven: bool,
    pub(super) sample: Sample,
}

/// Where the samples of a filter come out, and whose they are.
struct Tap {
    samples: Samples,
    apps: BTreeMap<u32, AppId>,
}

/// Samples of one filter that are taken at once: more than come in the time between two looks.
pub(super) const SAMPLE_BATCH: usize = 4096;

impl Shield {
    /// Makes all interfaces filter. If one refuses, those that were unfiltered before are left
    /// so.
    pub(super) fn raise(
        config: &Config,
        (feeds, places): (Vec<FeedList>, Arc<Places>),
    ) -> Result<Self> {
        let mut shield = Self {
            filters: Vec::new(),
            fresh: Vec::new(),
            addresses: addresses::of_interfaces(&config.host.interfaces)?,
            taps: BTreeMap::new(),
            forwards: BTreeMap::new(),
        };
        let addresses = shield.addresses.clone();
        for interface in &config.host.interfaces {
            match shield.add(config, interface, &addresses, (&feeds, &places)) {
                Ok(Inherited::Nothing) => shield.fresh.push(interface.clone()),
                Ok(Inherited::Filter | Inherited::Replaced(_)) => {}
                Err(error) => {
                    shield.undo();
                    return Err(error);
                }
            }
        }
        Ok(shield)
    }

    /// Leaves those interfaces unfiltered that were so before.
    pub(super) fn undo(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.detach(|filter| fresh.iter().any(|name| filter.interface() == Some(name)));
    }

    /// What has to be known of the filters to work out what they should hold.
    pub(super) fn brief(&self, (feeds, places): (Vec<FeedList>, Arc<Places>)) -> Result<Brief> {
        let filters = self.filters.iter().map(Filter::brief);
        Ok(Brief {
            filters: filters.collect::<Result<_, _>>()?,
            feeds,
            places,
        })
    }

    /// Entries that the operator put on lists by hand.
    pub(super) fn operator_entries(&self) -> usize {
        let entries = self.filters.first().map(|filter| lists::all(filter.maps()));
        let entries = entries.into_iter().flatten();
        entries
            .filter(|(_, entry)| entry.source == lists::Source::Operator)
            .count()
    }

    /// Brings the maps in line with `config`, for which `prepared` was, interfaces included.
    pub(super) fn apply(&mut self, config: &Config, prepared: Prepared) -> Result<()> {
        let Prepared {
            addresses,
            feeds,
            places,
            filters,
        } = prepared;
        for (filter, prepared) in self.filters.iter_mut().zip(filters) {
            let applied = filter.commit(prepared)?;
            log::debug!("{}: {applied:?}", filter.interface().unwrap_or("private"));
        }
        let interfaces = &config.host.interfaces;
        for interface in interfaces {
            if !self
                .filters
                .iter()
                .any(|f| f.interface() == Some(interface))
            {
                self.add(config, interface, &addresses, (&feeds, &places))?;
            }
        }
        self.detach(|filter| {
            !interfaces
                .iter()
                .any(|name| filter.interface() == Some(name))
        });
        self.taps.retain(|tapped, _| interfaces.contains(tapped));
        self.forwards.retain(|name, _| interfaces.contains(name));
        for filter in &self.filters {
            if let Some(tap) = filter.interface().and_then(|name| self.taps.get_mut(name)) {
                tap.apps = apps_by_slot(filter)?;
            }
        }
        self.addresses = addresses;
        Ok(())
    }

    /// The names of the interfaces.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.filters.iter().filter_map(Filter::interface);
        names.map(str::to_owned).collect()
    }

    /// The samples since the last look.
    pub(super) fn samples(&mut self) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        for (interface, filter) in self.filters.iter().enumerate() {
            let tap = filter.interface().and_then(|name| self.taps.get_mut(name));
            let Some(Tap { samples, apps }) = tap else {
                continue;
            };
            let proofs = filter.maps().proofs()?;
            let samples = samples.drain(filter.maps(), SAMPLE_BATCH).into_iter();
            all.extend(samples.map(|sample| {
                let app = apps.get(&sample.verdict.slot).copied();
                let source = sample.packet.source.into();
                Seen {
                    interface,
                    app,
                    is_proven: app.is_some_and(|app| proofs.hold(app, source)),
                    sample,
                }
            }));
        }
        Ok(all)
    }

    /// The mitigations in the maps, with what they have matched.
    pub(super) fn mitigations(&self) -> Result<BTreeMap<(AppId, u32), (Signature, Hits)>> {
        let mut all = BTreeMap::new();
        for filter in &self.filters {
            let Some(tap) = filter.interface().and_then(|name| self.taps.get(name)) else {
                continue;
            };
            for (signature, hits) in filter.maps().mitigations()? {
                let Some(&app) = tap.apps.get(&signature.scope()) else {
                    continue;
                };
                let known = all.entry((app, signature.id()));
                known.or_insert((signature, Hits::default())).1.add(hits);
            }
        }
        Ok(all)
    }

    /// Puts a mitigation into all filters: the one that `signature` makes for the slot of `app`.
    pub(super) fn put_mitigation(
        &mut self,
        app: AppId,
        signature: impl Fn(u32) -> Signature,
    ) -> Result<()> {
        self.at_app(app, |filter, slot| filter.put_mitigation(signature(slot)))
    }

    /// Takes a mitigation out of all filters.
    pub(super) fn remove_mitigation(&mut self, app: AppId, id: u32) -> Result<()> {
        self.at_app(app, |filter, slot| filter.remove_mitigation(slot, id))
    }

    fn at_app(
        &mut self,
        app: AppId,
        act: impl Fn(&mut Filter, u32) -> Result<(), Error>,
    ) -> Result<()> {
        for filter in &mut self.filters {
            let tap = filter.interface().and_then(|name| self.taps.get(name));
            let mut slots = tap.into_iter().flat_map(|tap| &tap.apps);
            if let Some((&slot, _)) = slots.find(|(_, id)| **id == app) {
                act(filter, slot)?;
            }
        }
        Ok(())
    }

    /// Whether addresses came or went since the filters were told of them.
    pub(super) fn has_other_addresses(&self, config: &Config) -> Result<bool> {
        Ok(addresses::of_interfaces(&config.host.interfaces)? != self.addresses)
    }

    /// Takes what is over off the lists.
    pub(super) fn tidy(&mut self) -> Result<()> {
        self.filters.iter_mut().try_for_each(Filter::tidy)?;
        Ok(())
    }

    /// Takes the readers of events of filters that have not given theirs yet.
    pub(super) fn take_readers(&mut self) -> Result<Vec<(String, events::Reader)>> {
        let mut readers = Vec::new();
        for filter in &mut self.filters {
            if let Ok(ring) = filter.take_events() {
                let interface = filter.interface().unwrap_or_default().to_owned();
                let reader = events::Reader::new(ring).context("cannot poll the events")?;
                readers.push((interface, reader));
            }
        }
        Ok(readers)
    }

    /// Notes that each source has proved to its app that it is real.
    pub(super) fn prove(&self, proofs: &[(AppId, IpAddr)]) -> Result<()> {
        for filter in &self.filters {
            filter.maps().prove(proofs.iter().copied())?;
        }
        Ok(())
    }

    /// Notes whether each source holds a TCP connection with an app now.
    pub(super) fn note_sessions(&self, sessions: &[(AppId, IpAddr, bool)]) -> Result<()> {
        for filter in &self.filters {
            filter.maps().note_sessions(sessions.iter().copied())?;
        }
        Ok(())
    }

    /// The same for all that there are.
    pub(super) fn replace_sessions(&self, sessions: &[(AppId, IpAddr)]) -> Result<()> {
        for filter in &self.filters {
            let left_out = filter.maps().replace_sessions(sessions.iter().copied())?;
            if left_out > 0 {
                log::warn!(
                    "{}: {left_out} sources hold TCP connections beyond those that the filter has \
                     room for: apps with `require_tcp_session` do not admit them",
                    filter.interface().unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    /// Where the flows are noted that the filters carry.
    pub(super) fn forward_tables(&self) -> Vec<Arc<Table>> {
        self.forwards.values().cloned().collect()
    }

    /// Lets the filters carry flows for the next seconds, or from now on none.
    pub(super) fn hold_forwards(&mut self, hold: bool) -> Result<()> {
        for filter in &mut self.filters {
            filter.hold_forwards(hold)?;
        }
        Ok(())
    }

    /// Lets the filters send what they carry to these interfaces and no other.
    pub(super) fn send_to(&mut self, interfaces: &[String]) -> Result<()> {
        for filter in &mut self.filters {
            filter.send_to(interfaces)?;
        }
        Ok(())
    }

    /// Carries flows where they arrive at an interface that is not shielded.
    pub(super) fn carry_at(&mut self, interface: &str) -> Result<Carrier> {
        let filter = self.filters.first_mut().context("no filter")?;
        Ok(filter.carry_at(interface)?)
    }

    /// Whether an interface is shielded in its driver.
    pub(super) fn is_native(&self, interface: &str) -> bool {
        let mut filters = self.filters.iter();
        filters.any(|filter| {
            filter.interface() == Some(interface) && filter.mode() == Some(AttachMode::Native)
        })
    }

    /// Whether any filter can send what it is to answer.
    pub(super) fn can_answer(&self, answers: SynAnswers) -> Result<bool> {
        for filter in &self.filters {
            if filter.can_answer(answers)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the filters that can answer SYNs do so on these terms, and the others not.
    pub(super) fn set_terms(&mut self, answers: SynAnswers, terms: &Terms) -> Result<()> {
        for filter in &mut self.filters {
            let can = filter.can_answer(answers)?;
            filter.set_terms(can.then_some(terms))?;
        }
        Ok(())
    }

    /// Lets no filter answer SYNs.
    pub(super) fn end_answers(&mut self) -> Result<()> {
        for filter in &mut self.filters {
            filter.set_terms(None)?;
        }
        Ok(())
    }

    /// Makes the listeners take answers to cookies, see [`Filter::mark_listeners`].
    pub(super) fn mark_listeners(
        &mut self,
        answers: SynAnswers,
        listeners: &[SocketAddr],
    ) -> Result<()> {
        for filter in &mut self.filters {
            if !filter.can_answer(answers)? {
                continue;
            }
            let marked = filter.mark_listeners(listeners)?;
            ensure!(
                marked == listeners.len(),
                "only {marked} of {} listeners take cookies",
                listeners.len()
            );
        }
        Ok(())
    }

    pub(super) fn interfaces(&self) -> Result<Vec<InterfaceStatus>> {
        let status = |filter: &Filter| {
            InterfaceStatus::read(filter.interface().unwrap_or_default(), filter.maps())
        };
        Ok(self.filters.iter().map(status).collect::<Result<_, _>>()?)
    }

    pub(super) fn app_counters(&self) -> Result<BTreeMap<AppId, Snapshot>> {
        Ok(merge_apps(self.filters.iter().map(Filter::maps))?)
    }

    pub(super) fn rule_hits(&self) -> Result<RuleHits> {
        Ok(merge_rules(self.filters.iter().map(Filter::maps))?)
    }

    /// The id of the app at a slot, to name the app of an event.
    pub(super) fn slots(&self) -> Result<BTreeMap<u32, AppId>> {
        match self.filters.first() {
            Some(filter) => apps_by_slot(filter),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Removes all filters.
    pub(super) fn lower(mut self) {
        self.detach(|_| true);
    }

    fn add(
        &mut self,
        config: &Config,
        interface: &str,
        addresses: &[IpAddr],
        others: (&[FeedList], &Arc<Places>),
    ) -> Result<Inherited> {
        let (mut filter, inherited) = Filter::run(config, interface, addresses, others)
            .with_context(|| format!("cannot shield {interface}"))?;
        let mode = filter.mode().map_or("no", |mode| mode.name());
        match &inherited {
            Inherited::Nothing => log::info!("{interface}: filter attached, {mode} mode"),
            Inherited::Filter => log::info!(
                "{interface}: filter of the last run taken over, {mode} mode; its counters and \
                 lists go on"
            ),
            Inherited::Replaced(why) => log::warn!(
                "{interface}: filter of another version replaced, {mode} mode \
                 ({why}); its counters start at zero, and entries of `spectrum block` and \
                 `spectrum allow` are gone"
            ),
        }
        let tap = Tap {
            samples: filter.take_samples()?,
            apps: apps_by_slot(&filter)?,
        };
        self.taps.insert(interface.to_owned(), tap);
        let forwards = filter.forward_table()?;
        self.forwards.insert(interface.to_owned(), forwards);
        self.filters.push(filter);
        Ok(inherited)
    }

    fn detach(&mut self, mut gone: impl FnMut(&Filter) -> bool) {
        for filter in self.filters.extract_if(.., |filter| gone(filter)) {
            let interface = filter.interface().unwrap_or_default().to_owned();
            match filter.detach() {
                Ok(()) => log::info!("{interface}: filter detached"),
                Err(error) => log::error!("{interface}: {:#}", anyhow::Error::from(error)),
            }
        }
    }
}

fn apps_by_slot(filter: &Filter) -> Result<BTreeMap<u32, AppId>> {
    let slots = filter.maps().slots()?;
    Ok(slots.into_iter().map(|(id, slot)| (slot, id)).collect())
}
