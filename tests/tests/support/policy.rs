//! A policy in plain words, as the tables of the tests and their reference write it.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    Monitor,
    Enforce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub malformed: Mode,
    pub closed_ports: Mode,
    pub edges: Vec<IpAddr>,
    /// Each listens on every edge address. The slot of an app is its index here plus 1.
    pub apps: Vec<App>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct App {
    pub transport: Transport,
    pub ports: RangeInclusive<u16>,
    pub blocklist: Mode,
    pub allowlist: Mode,
    pub reflectors: Mode,
    pub reflector_ports: Vec<u16>,
    pub fragments: Mode,
    pub packet_rate: Rate,
    pub syn_rate: Rate,
}

impl App {
    /// An app without a rule.
    pub fn new(transport: Transport, ports: RangeInclusive<u16>) -> Self {
        Self {
            transport,
            ports,
            blocklist: Mode::Off,
            allowlist: Mode::Off,
            reflectors: Mode::Off,
            reflector_ports: Vec::new(),
            fragments: Mode::Off,
            packet_rate: Rate::OFF,
            syn_rate: Rate::OFF,
        }
    }
}

/// A limit that admits `burst` packets and, in the time that a test takes, no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub mode: Mode,
    pub burst: u32,
}

impl Rate {
    pub const OFF: Self = Self {
        mode: Mode::Off,
        burst: 1,
    };
}

/// One entry of a list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Index of the app; `None` for the global scope.
    pub app: Option<usize>,
    pub prefix: IpNet,
    pub action: Action,
    pub life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Block,
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Forever,
    /// Expires long after the test.
    Running,
    /// Expired before the test.
    Expired,
}
