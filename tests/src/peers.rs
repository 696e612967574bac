//! Spectrum beside its peers, HAProxy and nginx: what `cargo xtask bench proxy` measures.
//!
//! In the order in which a run goes:
//! - [`topology`]: client, edge and origin, each in a network namespace;
//! - [`site`]: one [`Subject`] on the edge, from its start to its end; [`process`] is what runs there,
//!   [`usage`] is what it costs;
//! - [`measurement`]: what is asked of each subject, and by which load;
//! - [`run`]: all subjects in turn;
//! - [`report`]: medians, rows and tables.
//!
//! No XDP program stands before the peers, and the devices behave alike for all: see [`topology`].

pub mod measurement;
pub mod process;
pub mod report;
pub mod run;
pub mod site;
pub mod template;
pub mod topology;
pub mod usage;

/// What stands between client and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Nothing: the edge forwards packets.
    Direct,
    Spectrum,
    Haproxy,
    /// With splice(2), pipes of 1 MiB and buffers of 64 KiB.
    HaproxyTuned,
    Nginx,
    /// With buffers of 64 KiB.
    NginxTuned,
    /// With `data_path = "kernel"`.
    SpectrumKernel,
    /// The kernel's own address translation, by nftables.
    Dnat,
}

impl Subject {
    /// Those that are compared over UDP, from the slowest to the fastest by what they do.
    pub const UDP: [Self; 5] = [
        Self::Nginx,
        Self::Spectrum,
        Self::Dnat,
        Self::SpectrumKernel,
        Self::Direct,
    ];

    /// Those that are compared as proxies.
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Spectrum,
        Self::Haproxy,
        Self::HaproxyTuned,
        Self::Nginx,
        Self::NginxTuned,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spectrum => "spectrum",
            Self::Haproxy => "haproxy",
            Self::HaproxyTuned => "haproxy tuned",
            Self::Nginx => "nginx",
            Self::NginxTuned => "nginx tuned",
            Self::SpectrumKernel => "spectrum kernel",
            Self::Dnat => "nft dnat",
        }
    }

    pub const fn is_peer(self) -> bool {
        match self {
            Self::Direct | Self::Spectrum | Self::SpectrumKernel | Self::Dnat => false,
            Self::Haproxy | Self::HaproxyTuned | Self::Nginx | Self::NginxTuned => true,
        }
    }

    /// HAProxy proxies TCP only.
    pub const fn serves_udp(self) -> bool {
        !matches!(self, Self::Haproxy | Self::HaproxyTuned)
    }
}
