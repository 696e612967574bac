//! What the maps should hold for a configuration: pure, so that it can be tested without a kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use spectrum_common::{
    access::{GLOBAL_SCOPE, action},
    address::Address,
    app::{App, HOST_SLOT, RateLimit, mode},
    ceiling::Ceiling,
    edge::{Edge, PAGE_SIZE, PortPage, PortSet},
    geo::{ANYWHERE, asked_by},
    maps::size,
    settings::Settings,
};
use spectrum_ebpf::{ceiling, limits};

use super::{
    clock,
    error::Error,
    lists::{FeedList, Prefixes},
    signatures::Signature,
};
use crate::{
    config::{
        self, Config, Connectivity, EdgeIps, Mode, PortRange, Protection, Rate, Transport, When,
        rule::Rule,
    },
    geo::{Places, Question},
};

/// The wanted contents of the maps. Indexes of pages and sets are those of the vectors here;
/// [`sync`](super::sync) decides where they lie in the maps.
pub(super) struct Plan {
    /// Only the policy: what belongs to the attachment, and the number of the policy, is zero.
    pub(super) settings: Settings,
    /// By slot. `reflector_set` is an index of [`Plan::reflector_sets`], what it asks of places
    /// the number of one of [`Plan::questions`], counted from the one after [`ANYWHERE`].
    /// `has_access_entries` is left at 0, because entries of the operator count too, and so are the masks, because those of
    /// mitigations do.
    pub(super) apps: BTreeMap<u32, App>,
    pub(super) reflector_sets: Vec<PortSet>,
    /// Page 0 is empty.
    pub(super) pages: Vec<PortPage>,
    /// Which of the pages hold indexes of pages rather than slots.
    pub(super) directories: BTreeSet<u32>,
    /// The directories are indexes of [`Plan::pages`].
    pub(super) edges: BTreeMap<Address, Edge>,
    /// Of two entries for the same prefix in the same scope, the later list's holds.
    pub(super) lists: Vec<List>,
    /// Custom rules that are not off. What they ask of places is numbered as for the apps.
    pub(super) rules: Vec<Signature>,
    /// What apps and rules ask of places, each question once.
    pub(super) questions: Vec<Question>,
    pub(super) places: Arc<Places>,
}

/// Prefixes of one scope that are all blocked or all allowed.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) scope: u32,
    pub(super) action: u32,
    pub(super) prefixes: Arc<Prefixes>,
}

/// Slots by the app's id.
pub(super) type Slots = BTreeMap<[u8; 16], u32>;

impl Plan {
    /// Plans for apps that keep their slot in `slots`; new ones get free ones.
    pub(super) fn new(
        config: &Config,
        addresses: &[Address],
        slots: &Slots,
        (feeds, places): (&[FeedList], &Arc<Places>),
    ) -> Result<Self, Error> {
        let mut plan = Self {
            settings: settings(config),
            apps: BTreeMap::new(),
            reflector_sets: Vec::new(),
            pages: vec![PortPage::default()],
            directories: BTreeSet::new(),
            edges: BTreeMap::new(),
            lists: Vec::new(),
            rules: Vec::new(),
            questions: Vec::new(),
            places: Arc::clone(places),
        };
        let host_asks = plan.add_rules(GLOBAL_SCOPE, &config.host.rules);
        let assigned = assign_slots(config, slots)?;
        plan.add_feeds(feeds, &assigned);
        plan.add_list(GLOBAL_SCOPE, action::BLOCK, &config.host.block);
        plan.add_list(GLOBAL_SCOPE, action::ALLOW, &config.host.allow);

        let mut edges = Edges::new(addresses);
        for (slot, app) in assigned {
            let reflector_set = plan.intern_set(&app.protection.reflector_ports)?;
            let mut layout = layout(config, app, reflector_set);
            if app.ip_firewall {
                plan.add_admission(&mut layout, &app.protection);
            }
            if plan.add_rules(slot, &app.protection.rules) || host_asks {
                layout.geo |= asked_by::RULES;
            }
            plan.apps.insert(slot, layout);
            if app.ip_firewall {
                plan.add_list(slot, action::BLOCK, &app.protection.block);
                plan.add_list(slot, action::ALLOW, &app.protection.allow);
            }
            edges.add(app, slot);
        }
        plan.add_edges(edges)?;
        Ok(plan)
    }

    /// What feeds say holds where no document says something else; what one allows, no other
    /// blocks.
    fn add_feeds(&mut self, feeds: &[FeedList], apps: &[(u32, &config::App)]) {
        let mut lists: Vec<List> = Vec::new();
        for feed in feeds {
            let scopes = match &feed.apps {
                None => vec![GLOBAL_SCOPE],
                Some(ids) => {
                    let named = apps.iter();
                    let named = named.filter(|(_, app)| app.ip_firewall && ids.contains(&app.id));
                    named.map(|(slot, _)| *slot).collect()
                }
            };
            lists.extend(scopes.into_iter().map(|scope| List {
                scope,
                action: feed.action.number(),
                prefixes: Arc::clone(&feed.prefixes),
            }));
        }
        lists.sort_by_key(|list| list.action == action::ALLOW);
        self.lists.extend(lists);
    }

    /// Whether an app asks which connections flows belong to.
    pub(super) fn follows_flows(&self) -> bool {
        self.apps.values().any(|app| app.out_of_state != mode::OFF)
    }

    fn add_list(&mut self, scope: u32, action: u32, prefixes: &[IpNet]) {
        if !prefixes.is_empty() {
            self.lists.push(List {
                scope,
                action,
                prefixes: Arc::new(Prefixes::new(prefixes.to_vec())),
            });
        }
    }

    /// Says whether any of these rules asks where a source is. One that asks what nobody knows is
    /// off.
    fn add_rules(&mut self, scope: u32, rules: &[Rule]) -> bool {
        let mut asks = false;
        for rule in rules.iter().filter(|rule| rule.mode != Mode::Off) {
            let mut signature = Signature::of_rule(rule, scope);
            let conditions = &rule.conditions;
            let asked = [conditions.asked_country(), conditions.asked_asn()];
            if !asked.iter().flatten().all(|asked| self.is_known(asked)) {
                continue;
            }
            let [countries, asns] = asked.map(|asked| {
                let number = asked.map_or(ANYWHERE, |asked| self.ask(asked));
                u8::try_from(number).expect("a configuration asks fewer")
            });
            asks |= [countries, asns].map(u32::from) != [ANYWHERE; 2];
            signature.rule.countries = countries;
            signature.rule.asns = asns;
            self.rules.push(signature);
        }
        asks
    }

    /// Who may come to an app; a rule that asks what nobody knows is off.
    fn add_admission(&mut self, app: &mut App, protection: &Protection) {
        let countries = protection.countries.refused();
        if let Some(refused) = countries.filter(|asked| self.is_known(asked)) {
            app.countries = mode_number(protection.countries.mode);
            app.refused_countries = self.ask(refused);
            app.geo |= asked_by::APP;
        }
        let asns = protection.asns.refused();
        if let Some(refused) = asns.filter(|asked| self.is_known(asked)) {
            app.asns = mode_number(protection.asns.mode);
            app.refused_asns = self.ask(refused);
            app.geo |= asked_by::APP;
        }
    }

    fn is_known(&self, question: &Question) -> bool {
        if question.is_about_countries() {
            self.places.has_countries()
        } else {
            self.places.has_asns()
        }
    }

    /// The number of a question, by its place among [`Plan::questions`].
    fn ask(&mut self, question: Question) -> u32 {
        let known = self.questions.iter().position(|other| *other == question);
        let index = known.unwrap_or_else(|| {
            self.questions.push(question);
            self.questions.len() - 1
        });
        ANYWHERE + 1 + number(index)
    }

    fn intern_set(&mut self, ports: &[u16]) -> Result<u32, Error> {
        let mut set = PortSet::default();
        for &port in ports {
            if let Some(word) = set.words.get_mut(usize::from(port / 64)) {
                *word |= 1 << (port % 64);
            }
        }
        let known = self.reflector_sets.iter().position(|other| *other == set);
        let index = known.unwrap_or_else(|| {
            self.reflector_sets.push(set);
            self.reflector_sets.len() - 1
        });
        // Half of the map: the other half still serves the configuration before this one.
        if index >= size::REFLECTOR_SETS / 2 {
            return Err(Error::Full {
                map: spectrum_common::maps::REFLECTORS,
                capacity: size::REFLECTOR_SETS / 2,
                remedy: "let more apps share the same protection.reflector_ports",
            });
        }
        Ok(number(index))
    }

    fn add_edges(&mut self, edges: Edges) -> Result<(), Error> {
        let mut directories = BTreeMap::new();
        for (address, apps) in edges.by_address {
            let mut directory = |ports: Vec<(u16, u16, u32)>, plan: &mut Self| {
                if ports.is_empty() {
                    return 0;
                }
                let known = directories.get(&ports).copied();
                known.unwrap_or_else(|| {
                    let index = plan.add_directory(&ports);
                    directories.insert(ports, index);
                    index
                })
            };
            let edge = Edge {
                tcp_directory: directory(apps.tcp.ports, self),
                udp_directory: directory(apps.udp.ports, self),
                tcp_fragments: apps.tcp.fragments.unwrap_or(mode::OFF),
                udp_fragments: apps.udp.fragments.unwrap_or(mode::OFF),
            };
            self.edges.insert(address, edge);
        }
        if self.pages.len() > size::PORT_PAGES / 2 {
            return Err(Error::Full {
                map: spectrum_common::maps::PORTS,
                capacity: size::PORT_PAGES / 2,
                remedy: "let more apps share edge addresses, or use fewer and denser port ranges",
            });
        }
        if self.edges.len() > size::EDGES {
            return Err(Error::Full {
                map: spectrum_common::maps::EDGES,
                capacity: size::EDGES,
                remedy: "use fewer edge addresses on this host",
            });
        }
        Ok(())
    }

    fn add_directory(&mut self, ports: &[(u16, u16, u32)]) -> u32 {
        let mut pages: BTreeMap<usize, PortPage> = BTreeMap::new();
        for &(first, last, slot) in ports {
            for port in first..=last {
                let [high, low] = port.to_be_bytes().map(usize::from);
                let page = pages.entry(high).or_default();
                set_entry(page, low, slot);
            }
        }
        let mut directory = PortPage::default();
        for (high, page) in pages {
            let index = self.add_page(page);
            set_entry(&mut directory, high, index);
        }
        let index = self.add_page(directory);
        self.directories.insert(index);
        index
    }

    fn add_page(&mut self, page: PortPage) -> u32 {
        self.pages.push(page);
        number(self.pages.len() - 1)
    }
}

fn set_entry(page: &mut PortPage, index: usize, value: u32) {
    debug_assert!(index < PAGE_SIZE);
    if let Some(entry) = page.entries.get_mut(index) {
        *entry = u16::try_from(value).expect("slots and pages are fewer than 65,536");
    }
}

/// The apps on each address.
struct Edges {
    by_address: BTreeMap<Address, AddressApps>,
    dynamic: Vec<Address>,
}

#[derive(Default)]
struct AddressApps {
    tcp: TransportApps,
    udp: TransportApps,
}

#[derive(Default)]
struct TransportApps {
    /// First port, last port, slot.
    ports: Vec<(u16, u16, u32)>,
    /// The most lenient mode among the apps.
    fragments: Option<u32>,
}

impl Edges {
    /// Every address of a shielded interface is an edge address, also one without an app, so that
    /// its closed ports are silent.
    fn new(addresses: &[Address]) -> Self {
        Self {
            by_address: addresses
                .iter()
                .map(|&address| (address, AddressApps::default()))
                .collect(),
            dynamic: addresses.to_vec(),
        }
    }

    fn add(&mut self, app: &config::App, slot: u32) {
        let addresses: Vec<Address> = match &app.edge_ips {
            EdgeIps::Static(ips) => ips.iter().copied().map(Address::from).collect(),
            EdgeIps::Dynamic(connectivity) => {
                let all = self.dynamic.iter().copied();
                all.filter(|address| reaches(*connectivity, address))
                    .collect()
            }
        };
        let PortRange { first, last } = app.ports;
        let fragments = mode_number(app.protection.fragments);
        for address in addresses {
            let apps = self.by_address.entry(address).or_default();
            let apps = match app.transport {
                Transport::Tcp => &mut apps.tcp,
                Transport::Udp => &mut apps.udp,
            };
            apps.ports.push((first, last, slot));
            let lenient = apps.fragments.unwrap_or(fragments).min(fragments);
            apps.fragments = Some(lenient);
        }
    }
}

fn reaches(connectivity: Connectivity, address: &Address) -> bool {
    match connectivity {
        Connectivity::All => true,
        Connectivity::Ipv4 => address.is_ipv4(),
        Connectivity::Ipv6 => !address.is_ipv4(),
    }
}

fn assign_slots<'a>(
    config: &'a Config,
    slots: &Slots,
) -> Result<Vec<(u32, &'a config::App)>, Error> {
    let taken: Vec<u32> = slots.values().copied().collect();
    let all = HOST_SLOT + 1..number(size::APPS);
    let mut free = all.filter(|slot| !taken.contains(slot));
    let mut assigned = Vec::with_capacity(config.apps.len());
    for app in &config.apps {
        let slot = slots.get(&app.id.0).copied().or_else(|| free.next());
        let slot = slot.ok_or(Error::Full {
            map: spectrum_common::maps::APPS,
            capacity: size::APPS - 1,
            remedy: "serve fewer apps on this edge",
        })?;
        assigned.push((slot, app.as_ref()));
    }
    Ok(assigned)
}

fn layout(config: &Config, app: &config::App, reflector_set: u32) -> App {
    let protection = &app.protection;
    let access = |mode| {
        if app.ip_firewall {
            mode_number(mode)
        } else {
            mode::OFF
        }
    };
    let is_tcp = app.transport == Transport::Tcp;
    let only = |transport, mode| {
        if app.transport == transport {
            mode
        } else {
            Mode::Off
        }
    };
    App {
        id: app.id.0,
        blocklist: access(protection.blocklist),
        allowlist: if protection.allow.is_empty() {
            mode::OFF
        } else {
            access(protection.allowlist)
        },
        reflectors: mode_number(only(Transport::Udp, protection.reflectors)),
        reflector_set,
        fragments: mode_number(protection.fragments),
        has_access_entries: 0,
        out_of_state: mode_number(only(Transport::Tcp, protection.out_of_state)),
        out_of_state_above: protection.out_of_state_above,
        challenge: u32::from(is_tcp && protection.syn_challenge.when != When::Never),
        challenge_above: match protection.syn_challenge.when {
            When::Auto => protection.syn_challenge.above,
            When::Never | When::Always => 0,
        },
        packet_rate: rate_limit(protection.packet_rate),
        syn_rate: rate_limit(Rate {
            mode: only(Transport::Tcp, protection.syn_rate.mode),
            ..protection.syn_rate
        }),
        ceiling: ceiling(&protection.ceiling),
        session_app: session_app(config, app),
        session: protection
            .tcp_session
            .as_ref()
            .map_or(mode::OFF, |session| mode_number(session.mode)),
        datagrams: mode_number(only(Transport::Udp, protection.datagrams.mode)),
        datagram_least: protection.datagrams.min.into(),
        datagram_most: protection.datagrams.max.into(),
        ..App::default()
    }
}

fn rate_limit(rate: Rate) -> RateLimit {
    let ticks = clock::ticks_per_second();
    limits::rate_limit(mode_number(rate.mode), rate.per_second, rate.burst, ticks)
}

/// The id of the app with which clients of `app` have to be connected.
fn session_app(config: &Config, app: &config::App) -> [u8; 16] {
    let wanted = app.protection.tcp_session.as_ref();
    let is_it = |other: &&Arc<config::App>| wanted.is_some_and(|wanted| wanted.app == other.name);
    let found = config.apps.iter().find(is_it);
    found.map_or([0; 16], |other| other.id.0)
}

fn ceiling(ceiling: &config::Ceiling) -> Ceiling {
    let bounds = [
        ceiling.packets_per_second,
        ceiling.bytes_per_second,
        ceiling.new_flows_per_second,
    ];
    let mode = if bounds == [None; 3] {
        Mode::Off
    } else {
        ceiling.mode
    };
    let [packets, bytes, flows] = bounds.map(Option::unwrap_or_default);
    let ticks = clock::ticks_per_second();
    ceiling::ceiling(mode_number(mode), packets, bytes, flows, ticks)
}

fn settings(config: &Config) -> Settings {
    let host = &config.host;
    Settings {
        abi_version: spectrum_common::ABI_VERSION,
        ticks_per_second: clock::ticks_per_second(),
        malformed: mode_number(host.malformed),
        closed_ports: mode_number(host.closed_ports.unwrap_or(Mode::Enforce)),
        events_per_second: host.drop_events_per_second,
        ..Settings::default()
    }
}

pub(super) const fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::Off => mode::OFF,
        Mode::Monitor => mode::MONITOR,
        Mode::Enforce => mode::ENFORCE,
    }
}

/// An index that the maps' sizes keep below 2³².
fn number(index: usize) -> u32 {
    u32::try_from(index).expect("indexes are bounded by the sizes of the maps")
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod plan_test;
