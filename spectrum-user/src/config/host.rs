//! The host: what `spectrum.toml` says, validated.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{feed::Feed, place::Geo, protection::Mode, rule::Rule, words::words};

#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Network interfaces to shield; at least one.
    pub interfaces: Vec<String>,
    pub xdp_mode: XdpMode,
    /// Directory of the app documents.
    pub apps_dir: PathBuf,
    /// Where programs, links and maps are pinned: one directory per interface below it.
    pub pin_dir: PathBuf,
    /// Socket on which the daemon answers the command line.
    pub control_socket: PathBuf,
    /// Who is asked for the names of origins; empty: those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// Threads that proxy; by default one per core.
    pub workers: usize,
    /// How long connections may go on after SIGTERM, or after their app is gone.
    pub drain: Duration,
    /// Where connection events go.
    pub events: EventOutput,
    /// Sampled drop events per second and CPU.
    pub drop_events_per_second: u32,
    /// Where copies of feeds are kept.
    pub state_dir: PathBuf,
    pub feeds: Vec<Feed>,
    pub geo: Geo,
    /// Global blocklist.
    pub block: Vec<IpNet>,
    /// Sources that the global blocklist never touches, though a wider prefix be on it.
    pub allow: Vec<IpNet>,
    pub malformed: Mode,
    /// `None`: enforce, unless the host forwards packets (then monitor, because replies to
    /// masqueraded connections have no socket here).
    pub closed_ports: Option<Mode>,
    pub syn_answers: SynAnswers,
    /// Custom rules for all apps, sorted by id.
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native, or generic where the driver cannot.
    Auto,
    Native,
    Generic,
}

words!(XdpMode {
    Auto = "auto",
    Native = "native",
    Generic = "generic",
});

/// Where filters answer the SYNs of challenged apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynAnswers {
    /// Where the driver is known to send what XDP answers.
    Auto,
    /// On virtual Ethernet pairs too: the other end has an XDP program, without which they lose it.
    On,
    Off,
}

words!(SynAnswers {
    Auto = "auto",
    On = "on",
    Off = "off",
});

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutput {
    Off,
    Stdout,
    File(PathBuf),
}
