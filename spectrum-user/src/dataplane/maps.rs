//! The maps by their domain names, with the types of their keys and values.

use aya::maps::{Array, DevMapHash, Map, MapData, MapError, PerCpuArray};
use spectrum_common::{
    address::Address,
    app::App,
    counters::AppCounters,
    edge::{Edge, EdgeSet, PortPage, PortSet},
    event::EventBudget,
    flow::FlowSet,
    forward::{ForwardCounters, ForwardLease},
    handshake::Handshake,
    maps as names,
    settings::Settings,
    signature::{SignatureHits, SignatureMask, SignatureRule, SignatureSet},
    source::SourceSet,
    surge::Surge,
};

use super::{
    access_map::AccessMap,
    access_table::Table,
    error::Error,
    proven::SourceSets,
    table_map::{self, Names, TableMap},
};

/// Handles to all maps of one filter.
pub struct Maps {
    pub(super) settings: Array<MapData, Settings>,
    pub(super) edges: Array<MapData, EdgeSet>,
    pub(super) ports: Array<MapData, PortPage>,
    pub(super) apps: Array<MapData, App>,
    pub(super) reflectors: Array<MapData, PortSet>,
    pub(super) access: AccessMap,
    pub(super) geo: TableMap,
    pub(super) counters: PerCpuArray<MapData, AppCounters>,
    pub(super) sources: Array<MapData, SourceSet>,
    pub(super) signature_masks: Array<MapData, SignatureMask>,
    pub(super) signatures: Array<MapData, SignatureSet>,
    pub(super) signature_rules: Array<MapData, SignatureRule>,
    pub(super) signature_hits: PerCpuArray<MapData, SignatureHits>,
    pub(super) signature_rates: Array<MapData, u64>,
    pub(super) proven: SourceSets,
    pub(super) tcp_sessions: SourceSets,
    pub(super) flows: Array<MapData, FlowSet>,
    pub(super) challenges: Array<MapData, Surge>,
    pub(super) strays: Array<MapData, Surge>,
    pub(super) handshake: Array<MapData, Handshake>,
    pub(super) forward_lines: Map,
    pub(super) forwards: Map,
    pub(super) forward_lease: Array<MapData, ForwardLease>,
    pub(super) forward_ports: DevMapHash<MapData>,
    pub(super) forward_counts: PerCpuArray<MapData, ForwardCounters>,
    pub(super) event_budget: PerCpuArray<MapData, EventBudget>,
    pub(super) sample_budget: PerCpuArray<MapData, EventBudget>,
}

impl Maps {
    /// Takes each map from `open`, by name; `table` knows where those that lead to a table lead.
    pub(super) fn open(
        mut open: impl FnMut(&'static str) -> Result<Map, Error>,
        table: impl Fn(Names, Map) -> Result<TableMap, Error>,
    ) -> Result<Self, Error> {
        let mut typed = Opener { open: &mut open };
        Ok(Self {
            settings: typed.map(names::SETTINGS)?,
            edges: typed.map(names::EDGES)?,
            ports: typed.map(names::PORTS)?,
            apps: typed.map(names::APPS)?,
            reflectors: typed.map(names::REFLECTORS)?,
            access: AccessMap::new(
                &(typed.open)(names::ACCESS_HINTS)?,
                table(table_map::ACCESS, (typed.open)(names::ACCESS)?)?,
            )?,
            geo: table(table_map::GEO, (typed.open)(names::GEO)?)?,
            counters: typed.map(names::COUNTERS)?,
            sources: typed.map(names::SOURCES)?,
            signature_masks: typed.map(names::SIGNATURE_MASKS)?,
            signatures: typed.map(names::SIGNATURES)?,
            signature_rules: typed.map(names::SIGNATURE_RULES)?,
            signature_hits: typed.map(names::SIGNATURE_HITS)?,
            signature_rates: typed.map(names::SIGNATURE_RATES)?,
            proven: typed.sources(names::PROVEN)?,
            tcp_sessions: typed.sources(names::TCP_SESSIONS)?,
            flows: typed.map(names::FLOWS)?,
            challenges: typed.map(names::CHALLENGES)?,
            strays: typed.map(names::STRAYS)?,
            handshake: typed.map(names::HANDSHAKE)?,
            forward_lines: (typed.open)(names::FORWARD_LINES)?,
            forwards: (typed.open)(names::FORWARDS)?,
            forward_lease: typed.map(names::FORWARD_LEASE)?,
            forward_ports: typed.map(names::FORWARD_PORTS)?,
            forward_counts: typed.map(names::FORWARD_COUNTS)?,
            event_budget: typed.map(names::EVENT_BUDGET)?,
            sample_budget: typed.map(names::SAMPLE_BUDGET)?,
        })
    }

    /// The settings that the program runs with.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.settings
            .get(&0, 0)
            .map_err(Error::map(names::SETTINGS, "read"))
    }

    /// Notes that the pins were moved.
    pub(super) fn moved_to(&mut self, pin: impl Fn(Names) -> std::path::PathBuf) {
        self.access.moved_to(pin(table_map::ACCESS));
        self.geo.moved_to(pin(table_map::GEO));
    }

    /// The table of the lists.
    pub(super) fn listed(&self) -> Table<'_> {
        self.access.table()
    }

    /// All edge addresses.
    pub(super) fn edges(&self) -> Result<Vec<(Address, Edge)>, Error> {
        let mut edges = Vec::new();
        for set in self.edges.iter() {
            let EdgeSet {
                addresses,
                edges: of_set,
            } = set.map_err(Error::map(names::EDGES, "read"))?;
            let places = addresses.into_iter().zip(of_set);
            edges.extend(places.filter(|(address, _)| *address != Address::default()));
        }
        Ok(edges)
    }

    /// All slots in use but the host's: `(slot, app)`.
    pub(super) fn apps_in_use(&self) -> Result<Vec<(u32, App)>, Error> {
        let mut apps = Vec::new();
        for slot in 1..self.apps.len() {
            let app = self
                .apps
                .get(&slot, 0)
                .map_err(Error::map(names::APPS, "read"))?;
            if app.id != [0; 16] {
                apps.push((slot, app));
            }
        }
        Ok(apps)
    }
}

struct Opener<'a, F> {
    open: &'a mut F,
}

impl<F: FnMut(&'static str) -> Result<Map, Error>> Opener<'_, F> {
    fn map<M: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<M, Error> {
        M::try_from((self.open)(name)?).map_err(Error::map(name, "use it as what it should be"))
    }

    fn sources(&mut self, name: &'static str) -> Result<SourceSets, Error> {
        SourceSets::map(name, &(self.open)(name)?)
    }
}
