//! The hosts of a lab and the links between them.
//!
//! ```text
//!   client ──eth0┐
//!                ├─ internet (a bridge) ──front─ edge ─back──eth0─ origin
//! attacker ──eth0┘
//! ```
//!
//! The bridge forwards whatever source an attacker writes into a packet, and its own address is
//! the edge's default gateway, where replies to spoofed sources end without an answer. The edge's
//! `front` is one end of a veth pair, on which native XDP works.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Once},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{leftovers, netns::Namespace, packet::Path as LinkPath};

mod offload;

/// Addresses of every lab: all from the ranges for documentation, so that a packet that escapes
/// goes nowhere.
pub mod address {
    use super::{Ipv4Addr, Ipv6Addr};

    pub const EDGE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);

    pub const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
    pub const ATTACKER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x66);
    pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);

    /// On VLAN [`super::VLAN`], in a lab made by [`super::Lab::with_vlan`].
    pub const EDGE_VLAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    pub const CLIENT_VLAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    /// Behind the edge.
    pub const EDGE_BACK: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    pub const ORIGIN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
    pub const EDGE_BACK_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1);
    pub const ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 2);
}

/// The tag of the VLAN between client and edge.
pub const VLAN: u16 = 100;

/// The edge's interface towards clients: the one to shield.
pub const FRONT: &str = "front";
/// The edge's interface towards the origin.
pub const BACK: &str = "back";
/// The only interface of client, attacker and origin.
pub const ETH0: &str = "eth0";

const BRIDGE: &str = "bridge";
const MAC_FRONT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const MAC_ATTACKER: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

/// Whether the client also has a VLAN to the edge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vlan {
    Without,
    With,
}

/// A host: a namespace with interfaces. Goes when its last handle is dropped.
#[derive(Clone, Debug)]
pub struct Host {
    pub namespace: Arc<Namespace>,
}

impl Host {
    fn create(lab: &str, role: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{lab}-{role}"))?;
        // Before there is any interface, so that all of them inherit it: sources may be spoofed,
        // and addresses work at once (no duplicate address detection, no router solicitation).
        for (key, value) in [
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/all/disable_ipv6", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
        ] {
            namespace.set_sysctl(key, value)?;
        }
        Ok(Self {
            namespace: Arc::new(namespace),
        })
    }

    /// Gives the host one more address.
    ///
    /// # Errors
    /// It has it, or there is no such interface.
    pub fn add_address(&self, interface: &str, address: IpAddr) -> Result<()> {
        let length = if address.is_ipv4() { 24 } else { 64 };
        let nodad = if address.is_ipv4() { "" } else { "nodad" };
        let line = format!("address add {address}/{length} dev {interface} {nodad}\n");
        self.namespace.ip(&line)
    }
}

/// Five hosts, a directory for files and one for pins; all removed when dropped.
#[derive(Debug)]
pub struct Lab {
    pub client: Host,
    pub attacker: Host,
    pub internet: Host,
    pub edge: Host,
    pub origin: Host,
    directory: TempDir,
    pins: PathBuf,
}

impl Lab {
    /// # Errors
    /// Not root, or a kernel without network namespaces, veth or bridges.
    pub fn new() -> Result<Self> {
        Self::create(Vlan::Without)
    }

    /// A lab whose client also reaches the edge over a VLAN, tagged on the wire.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_vlan() -> Result<Self> {
        Self::create(Vlan::With)
    }

    fn create(vlan: Vlan) -> Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(leftovers::sweep_dead);

        let name = leftovers::unique_name();
        let directory = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir()?;
        let lab = Self {
            client: Host::create(&name, "client")?,
            attacker: Host::create(&name, "attacker")?,
            internet: Host::create(&name, "internet")?,
            edge: Host::create(&name, "edge")?,
            origin: Host::create(&name, "origin")?,
            directory,
            pins: Path::new(leftovers::BPF_DIR).join(&name),
        };
        lab.link_hosts().context("linking the hosts of the lab")?;
        lab.address_hosts()
            .context("addressing the hosts of the lab")?;
        if vlan == Vlan::With {
            lab.add_vlan().context("adding a VLAN to the lab")?;
        }
        Ok(lab)
    }

    /// A directory for whatever files the lab needs.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Where a daemon of this lab pins its programs and maps.
    pub fn pin_dir(&self) -> &Path {
        &self.pins
    }

    /// The way of a frame from the attacker to the edge.
    pub fn attack_path(&self) -> LinkPath {
        LinkPath {
            source: MAC_ATTACKER,
            destination: MAC_FRONT,
        }
    }

    fn link_hosts(&self) -> Result<()> {
        self.internet.namespace.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link add client type veth peer name {ETH0} address {} netns {}
             link add attacker type veth peer name {ETH0} address {} netns {}
             link add edge type veth peer name {FRONT} address {} netns {}
             link set client master {BRIDGE} up
             link set attacker master {BRIDGE} up
             link set edge master {BRIDGE} up
             link set {BRIDGE} up
             link set lo up\n",
            mac(MAC_CLIENT),
            self.client.namespace.name(),
            mac(MAC_ATTACKER),
            self.attacker.namespace.name(),
            mac(MAC_FRONT),
            self.edge.namespace.name(),
        ))?;
        self.edge.namespace.ip(&format!(
            "link add {BACK} type veth peer name {ETH0} netns {}\n",
            self.origin.namespace.name(),
        ))
    }

    fn address_hosts(&self) -> Result<()> {
        use address::{
            ATTACKER, ATTACKER_V6, CLIENT, CLIENT_V6, EDGE, EDGE_BACK, EDGE_BACK_V6, EDGE_V6,
            GATEWAY, GATEWAY_V6, ORIGIN, ORIGIN_V6,
        };
        let interface = |name: &str, v4: Ipv4Addr, v6: Ipv6Addr| {
            format!(
                "address add {v4}/24 dev {name}
                 address add {v6}/64 dev {name} nodad
                 link set {name} up
                 link set lo up\n"
            )
        };
        let gateway = format!(
            "route add default via {GATEWAY}
             -6 route add default via {GATEWAY_V6}\n"
        );
        let to_internet = |name, v4, v6| interface(name, v4, v6) + &gateway;

        let internet = interface(BRIDGE, GATEWAY, GATEWAY_V6);
        self.internet.namespace.ip(&internet)?;
        let client = to_internet(ETH0, CLIENT, CLIENT_V6);
        self.client.namespace.ip(&client)?;
        let attacker = to_internet(ETH0, ATTACKER, ATTACKER_V6);
        self.attacker.namespace.ip(&attacker)?;
        let edge = interface(BACK, EDGE_BACK, EDGE_BACK_V6) + &to_internet(FRONT, EDGE, EDGE_V6);
        self.edge.namespace.ip(&edge)?;
        self.origin
            .namespace
            .ip(&interface(ETH0, ORIGIN, ORIGIN_V6))
    }

    fn add_vlan(&self) -> Result<()> {
        use address::{CLIENT_VLAN, EDGE_VLAN};
        let tagged = |parent: &str, v4: Ipv4Addr| {
            format!(
                "link add link {parent} name {parent}.{VLAN} type vlan id {VLAN}
                 address add {v4}/24 dev {parent}.{VLAN}
                 link set {parent}.{VLAN} up\n"
            )
        };
        self.client.namespace.ip(&tagged(ETH0, CLIENT_VLAN))?;
        self.edge.namespace.ip(&tagged(FRONT, EDGE_VLAN))?;
        // A veth pair hands a tag over beside the packet, where XDP would not see it. Wires do not.
        let untag = |port| self.internet.namespace.run(|| offload::disable_vlan(port));
        untag("edge")?.context("turning VLAN offload off")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pins);
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
