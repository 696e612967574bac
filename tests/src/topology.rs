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
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Once},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{leftovers, netns::Namespace, packet::Path as LinkPath};

mod offload;
mod pass;

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

    /// Behind the edge.
    pub const EDGE_BACK: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    pub const ORIGIN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
    pub const EDGE_BACK_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1);
    pub const ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 2);
}

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

    /// Packets that have arrived at an interface, before any filter.
    ///
    /// # Errors
    /// No such interface.
    pub fn received(&self, interface: &str) -> Result<u64> {
        let table = self.read_statistics("dev")?;
        let mut rows = table.lines().filter_map(|line| line.split_once(':'));
        let row = rows.find(|(name, _)| name.trim() == interface);
        let packets = row.and_then(|(_, numbers)| numbers.split_whitespace().nth(1));
        Ok(packets
            .with_context(|| format!("no interface {interface}"))?
            .parse()?)
    }

    /// A counter of the host's TCP/IP stack (RFC 1213), such as `Tcp` and `InSegs`.
    ///
    /// # Errors
    /// No such counter.
    pub fn stack_counter(&self, protocol: &str, name: &str) -> Result<u64> {
        let table = self.read_statistics("snmp")?;
        let of_protocol = |line: &&str| line.split(':').next() == Some(protocol);
        let mut rows = table.lines().filter(of_protocol).map(str::split_whitespace);
        let (names, values) = (rows.next(), rows.next());
        let mut pairs = names
            .into_iter()
            .flatten()
            .zip(values.into_iter().flatten());
        let value = pairs
            .find(|(column, _)| *column == name)
            .map(|(_, value)| value);
        Ok(value
            .with_context(|| format!("no counter {protocol} {name}"))?
            .parse()?)
    }

    fn read_statistics(&self, file: &str) -> Result<String> {
        // `/proc/net` would be that of the process, not of the thread.
        let path = Path::new("/proc/thread-self/net").join(file);
        let text = self.namespace.run(|| fs::read_to_string(path))?;
        text.with_context(|| format!("reading /proc/net/{file}"))
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
    /// Lets the edge's filter answer.
    answers: Option<OwnedFd>,
    /// Lets the edge send to the origin from a filter.
    back: Option<OwnedFd>,
}

impl Lab {
    /// # Errors
    /// Not root, or a kernel without network namespaces, veth or bridges.
    pub fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(leftovers::sweep_dead);

        let name = leftovers::unique_name();
        let mut lab = Self {
            client: Host::create(&name, "client")?,
            attacker: Host::create(&name, "attacker")?,
            internet: Host::create(&name, "internet")?,
            edge: Host::create(&name, "edge")?,
            origin: Host::create(&name, "origin")?,
            directory: leftovers::directory(&name)?,
            pins: Path::new(leftovers::BPF_DIR).join(&name),
            answers: None,
            back: None,
        };
        lab.link_hosts().context("linking the hosts of the lab")?;
        lab.address_hosts()
            .context("addressing the hosts of the lab")?;
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

    /// From now on the link in front of the edge loses what its filter answers.
    pub fn lose_answers(&mut self) {
        self.answers = None;
    }

    /// From now on datagrams have their checksums when they leave client, attacker and origin, and the origin takes
    /// what a filter of the edge sends: as with network cards.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn behave_as_wires(&mut self) -> Result<()> {
        for host in [&self.client, &self.attacker, &self.origin] {
            let finished = host.namespace.run(|| offload::set_checksums(ETH0, false))?;
            finished.context("turning checksum offload off")?;
        }
        let back = self.origin.namespace.run(|| pass::attach(ETH0))?;
        self.back = Some(back.context("attaching an XDP program that passes")?);
        Ok(())
    }

    /// From now on datagrams leave client and origin without their checksums, as from sockets behind virtual
    /// interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn leave_checksums_to_others(&self) -> Result<()> {
        for host in [&self.client, &self.origin] {
            let left = host.namespace.run(|| offload::set_checksums(ETH0, true))?;
            left.context("turning checksum offload on")?;
        }
        Ok(())
    }

    /// From now on the origin takes nothing that a filter of the edge sends.
    pub fn lose_what_is_carried(&mut self) {
        self.back = None;
    }

    /// The way of a frame from the attacker to the edge.
    pub fn attack_path(&self) -> LinkPath {
        LinkPath {
            source: MAC_ATTACKER,
            destination: MAC_FRONT,
        }
    }

    fn link_hosts(&mut self) -> Result<()> {
        self.let_the_bridge_be_blind()?;
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
        // A veth pair hands a VLAN tag over beside the packet, where XDP would not see it. Wires do not.
        let as_on_a_wire = || offload::disable_vlan("edge");
        let offload = self.internet.namespace.run(as_on_a_wire)?;
        offload.context("turning VLAN offload off")?;
        let answers = self.internet.namespace.run(|| pass::attach("edge"))?;
        self.answers = Some(answers.context("attaching an XDP program that passes")?);
        self.edge.namespace.ip(&format!(
            "link add {BACK} type veth peer name {ETH0} netns {}\n",
            self.origin.namespace.name(),
        ))
    }

    /// Where `br_netfilter` is loaded, a bridge drops what is no valid IP packet: not here.
    fn let_the_bridge_be_blind(&self) -> Result<()> {
        let internet = &self.internet.namespace;
        for key in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            let key = format!("bridge/{key}");
            if internet.run(|| Path::new("/proc/sys/net").join(&key).exists())? {
                internet.set_sysctl(&key, "0")?;
            }
        }
        Ok(())
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
             route add default via {GATEWAY_V6}\n"
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
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pins);
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
