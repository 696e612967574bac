//! Which app each port of each edge address leads to, in pages.

use std::collections::BTreeMap;

use spectrum_common::{
    address::Address,
    app::mode,
    edge::{Edge, PAGE_SIZE, PortPage},
    maps::{self as names, size},
};

use super::{Plan, mode_number, number};
use crate::{
    config::{self, Connectivity, EdgeIps, PortRange, Transport},
    dataplane::error::Error,
};

/// The apps on each address.
pub(super) struct Edges {
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
    pub(super) fn new(addresses: &[Address]) -> Self {
        Self {
            by_address: addresses
                .iter()
                .map(|&address| (address, AddressApps::default()))
                .collect(),
            dynamic: addresses.to_vec(),
        }
    }

    pub(super) fn add(&mut self, app: &config::App, slot: u32) {
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

impl Plan {
    pub(super) fn add_edges(&mut self, edges: Edges) -> Result<(), Error> {
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
                map: names::PORTS,
                capacity: size::PORT_PAGES / 2,
                remedy: "let more apps share edge addresses, or use fewer and denser port ranges",
            });
        }
        if self.edges.len() > size::EDGES {
            return Err(Error::Full {
                map: names::EDGES,
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
