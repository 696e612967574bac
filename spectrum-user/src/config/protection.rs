//! The rules of the data plane that an app asks for.

use ipnet::IpNet;

use super::{place::Admission, rule::Rule, words::words};
use crate::geo::Country;

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    Monitor,
    Enforce,
}

words!(Mode {
    Off = "off",
    Monitor = "monitor",
    Enforce = "enforce",
});

/// A limit per source address (IPv6: per /64).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub mode: Mode,
    /// At least 1.
    pub per_second: u32,
    /// Packets that may come at once; at least 1.
    pub burst: u32,
}

/// Bounds on what the app gets from all sources together; each at least 1, `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    pub mode: Mode,
    pub packets_per_second: Option<u64>,
    /// Bytes of whole frames.
    pub bytes_per_second: Option<u64>,
    /// TCP: SYNs. UDP: datagrams of sources that have not proved to be real.
    pub new_flows_per_second: Option<u64>,
}

impl Ceiling {
    /// No bound at all.
    pub const NONE: Self = Self {
        mode: Mode::Off,
        packets_per_second: None,
        bytes_per_second: None,
        new_flows_per_second: None,
    };
}

/// Admits only sources that hold a TCP connection with another app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSession {
    pub mode: Mode,
    /// The name of the other app.
    pub app: String,
}

/// How many bytes a datagram may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    pub mode: Mode,
    pub min: u16,
    /// At least `min`.
    pub max: u16,
}

impl Datagrams {
    /// What fits into an IPv4 packet.
    pub const LARGEST: u16 = 65_507;

    pub const ANY: Self = Self {
        mode: Mode::Off,
        min: 0,
        max: Self::LARGEST,
    };
}

/// How much more than a client sends it gets, before it has proved to be real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amplification {
    pub mode: Mode,
    /// At least 1.
    pub ratio: u32,
}

impl Amplification {
    pub const ANY: Self = Self {
        mode: Mode::Off,
        ratio: 1,
    };
}

/// When the filter answers an app's SYNs with cookies, so that forged ones reach nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynChallenge {
    pub when: When,
    /// SYNs per second above which `auto` begins; at least 1.
    pub above: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Never,
    /// While there is a flood.
    Auto,
    Always,
}

words!(When {
    Never = "never",
    Auto = "auto",
    Always = "always",
});

/// How soon the engine takes what comes for a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    Off,
    Low,
    Medium,
    High,
}

words!(Sensitivity {
    Off = "off",
    Low = "low",
    Medium = "medium",
    High = "high",
});

/// What the mitigation engine may do for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigation {
    pub sensitivity: Sensitivity,
    pub mode: Mode,
}

impl Mitigation {
    pub const OFF: Self = Self {
        sensitivity: Sensitivity::Off,
        mode: Mode::Off,
    };

    pub fn is_on(self) -> bool {
        self.sensitivity != Sensitivity::Off && self.mode != Mode::Off
    }
}

/// The `[protection]` table of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Sources that this app refuses.
    pub block: Vec<IpNet>,
    /// [`Mode`] of the blocklist, global and own.
    pub blocklist: Mode,
    /// If not empty, the only sources that this app admits.
    pub allow: Vec<IpNet>,
    pub allowlist: Mode,
    pub countries: Admission<Country>,
    /// Autonomous systems.
    pub asns: Admission<u32>,
    /// UDP from the ports of amplifiers.
    pub reflectors: Mode,
    /// Those ports, sorted.
    pub reflector_ports: Vec<u16>,
    pub fragments: Mode,
    pub packet_rate: Rate,
    /// TCP only.
    pub syn_rate: Rate,
    /// TCP only.
    pub syn_challenge: SynChallenge,
    /// TCP only: segments that belong to no connection.
    pub out_of_state: Mode,
    /// Such segments per second above which the rule applies; 0 is always.
    pub out_of_state_above: u32,
    pub mitigation: Mitigation,
    /// Custom rules, sorted by id.
    pub rules: Vec<Rule>,
    pub ceiling: Ceiling,
    /// UDP only.
    pub tcp_session: Option<TcpSession>,
    /// UDP only.
    pub datagrams: Datagrams,
    /// UDP only.
    pub amplification: Amplification,
}
