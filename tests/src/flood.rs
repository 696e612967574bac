//! What survives a flood: legitimate clients on one core, attackers at full speed on another, and
//! in turn nothing, what the kernel has, and Spectrum between them. What `cargo xtask bench flood`
//! measures.
//!
//! In the order in which a run goes:
//! - [`defence`]: an edge with one [`Defence`], in a lab of its own;
//! - [`storm`]: the frames of an [`Attack`];
//! - [`clients`]: those who must be served meanwhile;
//! - [`survival`]: both at once, and what came of it;
//! - [`report`]: the tables.
//!
//! Queues of the edge's interface belong to cores, as on a network card: what the attackers' core
//! sends does not wait in the same queue as what the clients' core sends.

pub mod clients;
pub mod cores;
pub mod defence;
pub mod report;
pub mod storm;
pub mod survival;

/// What stands between the attackers and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defence {
    /// nginx as the proxy, and SYN cookies switched off.
    Nothing,
    /// nginx, with `net.ipv4.tcp_syncookies = 1`, the kernel's default.
    KernelCookies,
    /// nginx behind nftables' synproxy.
    SynProxy,
    Spectrum,
}

impl Defence {
    pub const ALL: [Self; 4] = [
        Self::Nothing,
        Self::KernelCookies,
        Self::SynProxy,
        Self::Spectrum,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no protection",
            Self::KernelCookies => "kernel SYN cookies",
            Self::SynProxy => "nftables synproxy",
            Self::Spectrum => "spectrum",
        }
    }
}

/// What the attackers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Nothing: what the clients get on a quiet day.
    Calm,
    Syn,
    Ack,
    Rst,
    UdpRandom,
    UdpReflection,
    Fragments,
    /// All of them in turn.
    Mix,
}

impl Attack {
    pub const ALL: [Self; 8] = [
        Self::Calm,
        Self::Syn,
        Self::Ack,
        Self::Rst,
        Self::UdpRandom,
        Self::UdpReflection,
        Self::Fragments,
        Self::Mix,
    ];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "no attack",
            Self::Syn => "SYN flood",
            Self::Ack => "ACK flood",
            Self::Rst => "RST flood",
            Self::UdpRandom => "UDP, random sources",
            Self::UdpReflection => "UDP reflection",
            Self::Fragments => "fragments",
            Self::Mix => "all at once",
        }
    }

    /// For the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Syn => "syn",
            Self::Ack => "ack",
            Self::Rst => "rst",
            Self::UdpRandom => "udp",
            Self::UdpReflection => "reflection",
            Self::Fragments => "fragments",
            Self::Mix => "mix",
        }
    }
}
