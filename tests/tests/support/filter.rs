//! The compiled program with maps of its own, filled from a [`Policy`] without the daemon's help.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, Pod, VerifierLogLevel,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use ipnet::IpNet;
use spectrum_common::{
    ABI_VERSION,
    access::{AccessEntry, AccessKey, GLOBAL_SCOPE, SCOPE_BITS, action, origin},
    address::Address,
    app::{self, HOST_SLOT, RateLimit, mode},
    counters::{AppCounters, Counter},
    edge::{Edge, PortPage, PortSet},
    event::DropEvent,
    maps,
    reason::Reason,
    settings::Settings,
    source::{SETS, Source, SourceSet},
};
use spectrum_ebpf::access::{Family, FilterBit};

use crate::policy::{Action, App, Entry, Life, Mode, Policy, Rate, Transport};

/// A cell of the counters, and how far it moved.
pub type Moved = BTreeMap<(u32, Cell), Counter>;

/// Where a packet can end at an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Passed,
    Monitored(Reason),
    Dropped(Reason),
}

/// Events that each CPU may send per second.
pub const EVENTS_PER_SECOND: u32 = 100;

pub struct Filter {
    ebpf: Ebpf,
    slots: u32,
}

impl Filter {
    /// Loads the program and fills its maps.
    pub fn load(policy: &Policy) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(object()?)
            .context("load the object")?;
        let slots = u32::try_from(policy.apps.len())? + 1;
        fill(&mut ebpf, policy).context("fill the maps")?;
        for name in [maps::PROGRAM, "bare_drop"] {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("load {name}"))?;
        }
        Ok(Self { ebpf, slots })
    }

    /// Runs the program on a frame: its action, and the mean time it took.
    pub fn run(&mut self, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
        self.run_program(maps::PROGRAM, frame, repeat)
    }

    pub fn run_program(
        &mut self,
        name: &str,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration)> {
        let result = program(&mut self.ebpf, name)?.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        })?;
        Ok((result.return_value, result.duration))
    }

    pub fn info(&mut self) -> Result<(Option<u32>, u32, u32)> {
        let i = program(&mut self.ebpf, "spectrum")?.info()?;
        Ok((
            i.verified_instruction_count(),
            i.size_translated().unwrap_or(0),
            i.size_jitted(),
        ))
    }

    /// The cells that are not zero.
    pub fn counters(&self) -> Result<Moved> {
        let map: PerCpuArray<_, AppCounters> =
            PerCpuArray::try_from(self.ebpf.map(maps::COUNTERS).context(maps::COUNTERS)?)?;
        let mut cells = Moved::new();
        for slot in HOST_SLOT..self.slots {
            for counters in map.get(&slot, 0)?.iter() {
                let mut add = |cell, counter: &Counter| {
                    let sum = cells.entry((slot, cell)).or_default();
                    sum.packets += counter.packets;
                    sum.bytes += counter.bytes;
                };
                add(Cell::Passed, &counters.passed);
                for &reason in Reason::ALL {
                    add(Cell::Monitored(reason), counters.monitored.get(reason));
                    add(Cell::Dropped(reason), counters.dropped.get(reason));
                }
            }
        }
        cells.retain(|_, counter| *counter != Counter::default());
        Ok(cells)
    }
}

/// The cells that differ, and by how much.
pub fn moved(before: &Moved, after: &Moved) -> Moved {
    let mut moved = after.clone();
    for (cell, was) in before {
        let now = moved.entry(*cell).or_default();
        now.packets = now.packets.wrapping_sub(was.packets);
        now.bytes = now.bytes.wrapping_sub(was.bytes);
    }
    moved.retain(|_, counter| *counter != Counter::default());
    moved
}

/// The object that building `spectrum-user` has left, aligned as the ELF parser wants it.
fn object() -> Result<&'static [u8]> {
    static OBJECT: OnceLock<Vec<u8>> = OnceLock::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/bpf/bpfel-unknown-none/bpf/spectrum-xdp");
    if OBJECT.get().is_none() {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        drop(OBJECT.set(bytes));
    }
    OBJECT.get().map(Vec::as_slice).context("just set")
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf
        .program_mut(name)
        .with_context(|| format!("program {name}"))?
        .try_into()?)
}

fn fill(ebpf: &mut Ebpf, policy: &Policy) -> Result<()> {
    let mut tables = Array::try_from(map(ebpf, maps::SETTINGS)?)?;
    tables.set(0, settings(policy), 0)?;
    fill_apps(ebpf, policy)?;
    fill_edges(ebpf, policy)?;
    for entry in &policy.entries {
        fill_entry(ebpf, entry)?;
    }
    Ok(())
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).with_context(|| format!("map {name}"))
}

fn settings(policy: &Policy) -> Settings {
    let is_wide = |entry: &Entry| matches!(entry.prefix, IpNet::V6(net) if net.prefix_len() < 48);
    Settings {
        abi_version: ABI_VERSION,
        ticks_per_second: 250,
        hash_seed: 0x5eed,
        malformed: number(policy.malformed),
        closed_ports: number(policy.closed_ports),
        wide_ipv6_entries: policy.entries.iter().any(is_wide).into(),
        events_per_second: EVENTS_PER_SECOND,
        ..Settings::default()
    }
}

fn number(mode: Mode) -> u32 {
    match mode {
        Mode::Off => mode::OFF,
        Mode::Monitor => mode::MONITOR,
        Mode::Enforce => mode::ENFORCE,
    }
}

fn fill_apps(ebpf: &mut Ebpf, policy: &Policy) -> Result<()> {
    for (index, app) in policy.apps.iter().enumerate() {
        let mut set = PortSet::default();
        for &port in &app.reflector_ports {
            set.words[usize::from(port / 64)] |= 1 << (port % 64);
        }
        let reflector_set = u32::try_from(index)?;
        Array::try_from(map(ebpf, maps::REFLECTORS)?)?.set(reflector_set, set, 0)?;
        let is_own = |entry: &Entry| entry.app == Some(index);
        let layout = app::App {
            id: [1; 16],
            blocklist: number(app.blocklist),
            allowlist: number(app.allowlist),
            reflectors: number(app.reflectors),
            reflector_set,
            fragments: number(app.fragments),
            has_access_entries: policy.entries.iter().any(is_own).into(),
            packet_rate: rate_limit(app.packet_rate),
            syn_rate: rate_limit(app.syn_rate),
        };
        Array::try_from(map(ebpf, maps::APPS)?)?.set(slot(index)?, layout, 0)?;
    }
    Ok(())
}

fn slot(index: usize) -> Result<u32> {
    Ok(u32::try_from(index)? + 1)
}

/// A packet costs more time than any machine has been up.
fn rate_limit(rate: Rate) -> RateLimit {
    let interval = 1 << 56;
    RateLimit {
        interval,
        tolerance: interval * u64::from(rate.burst - 1),
        mode: number(rate.mode),
        per_second: 1,
    }
}

fn fill_edges(ebpf: &mut Ebpf, policy: &Policy) -> Result<()> {
    let mut pages = vec![PortPage::default()];
    let edge = Edge {
        tcp_directory: add_directory(&mut pages, policy, Transport::Tcp)?,
        udp_directory: add_directory(&mut pages, policy, Transport::Udp)?,
        tcp_fragments: most_lenient_fragments(policy, Transport::Tcp),
        udp_fragments: most_lenient_fragments(policy, Transport::Udp),
    };
    let mut ports = Array::try_from(map(ebpf, maps::PORTS)?)?;
    for (index, page) in pages.into_iter().enumerate() {
        ports.set(u32::try_from(index)?, page, 0)?;
    }
    let mut edges = HashMap::try_from(map(ebpf, maps::EDGES)?)?;
    for &address in &policy.edges {
        edges.insert(Address::from(address), edge, 0)?;
    }
    Ok(())
}

fn add_directory(pages: &mut Vec<PortPage>, policy: &Policy, transport: Transport) -> Result<u32> {
    let mut by_high_byte: BTreeMap<usize, PortPage> = BTreeMap::new();
    for (index, app) in policy.apps.iter().enumerate() {
        for port in app.ports.clone().filter(|_| app.transport == transport) {
            let page = by_high_byte.entry(usize::from(port >> 8)).or_default();
            page.entries[usize::from(port & 0xff)] = u16::try_from(slot(index)?)?;
        }
    }
    let mut directory = PortPage::default();
    for (high, page) in by_high_byte {
        directory.entries[high] = u16::try_from(pages.len())?;
        pages.push(page);
    }
    pages.push(directory);
    Ok(u32::try_from(pages.len() - 1)?)
}

fn most_lenient_fragments(policy: &Policy, transport: Transport) -> u32 {
    let apps = policy.apps.iter().filter(|app| app.transport == transport);
    apps.map(|app: &App| number(app.fragments))
        .min()
        .unwrap_or(mode::OFF)
}

fn fill_entry(ebpf: &mut Ebpf, entry: &Entry) -> Result<()> {
    let scope = entry.app.map_or(Ok(GLOBAL_SCOPE), slot)?;
    let (bits, is_host) = match entry.prefix {
        IpNet::V4(net) => (96 + u32::from(net.prefix_len()), net.prefix_len() == 32),
        IpNet::V6(net) => (u32::from(net.prefix_len()), net.prefix_len() == 128),
    };
    let key = AccessKey {
        scope_be: scope.to_be(),
        address: Address::from(entry.prefix.network()),
    };
    let value = AccessEntry {
        action: match entry.action {
            Action::Block => action::BLOCK,
            Action::Allow => action::ALLOW,
        },
        origin: origin::DOCUMENT,
        added_s: 1,
        expires_s: match entry.life {
            Life::Forever => 0,
            Life::Running => u32::MAX,
            Life::Expired => 1,
        },
        prefix_length: SCOPE_BITS + bits,
    };
    if is_host {
        HashMap::try_from(map(ebpf, maps::ACCESS_HOSTS)?)?.insert(key, value, 0)?;
    } else {
        let key = Key::new(SCOPE_BITS + bits, key);
        LpmTrie::try_from(map(ebpf, maps::ACCESS_NETS)?)?.insert(&key, value, 0)?;
    }
    set_filter_bits(ebpf, entry.prefix)
}

fn set_filter_bits(ebpf: &mut Ebpf, prefix: IpNet) -> Result<()> {
    let networks: Vec<IpAddr> = match prefix {
        IpNet::V4(net) if net.prefix_len() < 24 => net
            .subnets(24)?
            .map(|subnet| subnet.network().into())
            .collect(),
        // The program is told to look every IPv6 source up.
        IpNet::V6(net) if net.prefix_len() < 48 => Vec::new(),
        _ => vec![prefix.network()],
    };
    for network in networks {
        let bit = FilterBit::of(&Address::from(network));
        let name = match bit.family {
            Family::Ipv4 => maps::ACCESS_FILTER_V4,
            Family::Ipv6 => maps::ACCESS_FILTER_V6,
        };
        let mut filter: Array<_, u64> = Array::try_from(map(ebpf, name)?)?;
        let word = filter.get(&bit.word(), 0)?;
        filter.set(bit.word(), word | bit.mask(), 0)?;
    }
    Ok(())
}
