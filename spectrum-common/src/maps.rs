//! Names of the maps: in the object file, in `/sys/fs/bpf/spectrum/<interface>/`, and in the
//! documentation. At most 15 bytes, or the kernel cuts them.

/// Name of the XDP program.
pub const PROGRAM: &str = "spectrum";
/// Name of the program that is only ever run by hand, on a list of listeners.
pub const MARK_LISTENERS: &str = "mark_listeners";
/// Name of the program that only carries UDP flows past the proxy.
pub const CARRY: &str = "carry";

/// `Array` of 1 [`Settings`](crate::settings::Settings).
pub const SETTINGS: &str = "settings";
/// `Array` of [`EdgeSet`](crate::edge::EdgeSet).
pub const EDGES: &str = "edges";
/// `Array` of [`PortPage`](crate::edge::PortPage).
pub const PORTS: &str = "ports";
/// `Array` of [`App`](crate::app::App) by slot.
pub const APPS: &str = "apps";
/// `Array` of [`PortSet`](crate::edge::PortSet).
pub const REFLECTORS: &str = "reflectors";
/// `Array` of 1 array of [`HINT_WORDS`](crate::access::HINT_WORDS) words: which sources may be
/// listed.
pub const ACCESS_HINTS: &str = "access_hints";
/// `ArrayOfMaps` of 1 `Array` of [`Line`](crate::access::Line): the table of listed sources, which
/// is replaced as a whole.
pub const ACCESS: &str = "access";
/// That table itself: a pin beside those of the maps of the object.
pub const ACCESS_TABLE: &str = "access_table";
/// `ArrayOfMaps` of 1 `Array` of [`Line`](crate::access::Line): the table of countries and
/// autonomous systems ([`geo`](crate::geo)), which is replaced as a whole.
pub const GEO: &str = "geo";
/// That table itself, as [`ACCESS_TABLE`].
pub const GEO_TABLE: &str = "geo_table";
/// `PerCpuArray` of [`AppCounters`](crate::counters::AppCounters) by slot.
pub const COUNTERS: &str = "counters";
/// `Array` of [`SourceSet`](crate::source::SourceSet).
pub const SOURCES: &str = "sources";
/// `Array` of [`SignatureMask`](crate::signature::SignatureMask).
pub const SIGNATURE_MASKS: &str = "sig_masks";
/// `Array` of [`SignatureSet`](crate::signature::SignatureSet).
pub const SIGNATURES: &str = "signatures";
/// `Array` of [`SignatureRule`](crate::signature::SignatureRule).
pub const SIGNATURE_RULES: &str = "sig_rules";
/// `PerCpuArray` of [`SignatureHits`](crate::signature::SignatureHits) by rule.
pub const SIGNATURE_HITS: &str = "sig_hits";
/// `Array` of 64-bit words by rule: when its next packet is due, in scaled ticks (see
/// [`RateLimit`](crate::app::RateLimit)).
pub const SIGNATURE_RATES: &str = "sig_rates";
/// `Array` of [`ProvenSet`](crate::proven::ProvenSet).
pub const PROVEN: &str = "proven";
/// The same for sources of TCP connections that are open now.
pub const TCP_SESSIONS: &str = "tcp_sessions";
/// `Array` of [`CeilingUse`](crate::ceiling::CeilingUse) by slot.
pub const CEILINGS: &str = "ceilings";
/// `PerCpuArray` of [`CeilingShare`](crate::ceiling::CeilingShare) by slot.
pub const CEILING_SHARES: &str = "ceiling_shares";
/// `Array` of [`FlowSet`](crate::flow::FlowSet).
pub const FLOWS: &str = "flows";
/// `Array` of [`Surge`](crate::surge::Surge) by slot: SYNs.
pub const CHALLENGES: &str = "challenges";
/// `Array` of [`Surge`](crate::surge::Surge) by slot: TCP segments that belong to no connection.
pub const STRAYS: &str = "strays";
/// `Array` of 1 [`Handshake`](crate::handshake::Handshake).
pub const HANDSHAKE: &str = "handshake";
/// `Array` of [`ForwardLine`](crate::forward::ForwardLine).
pub const FORWARD_LINES: &str = "forward_lines";
/// `Array` of [`Forward`](crate::forward::Forward).
pub const FORWARDS: &str = "forwards";
/// `Array` of 1 [`ForwardLease`](crate::forward::ForwardLease).
pub const FORWARD_LEASE: &str = "forward_lease";
/// `DevMapHash` of interfaces, each by its own index.
pub const FORWARD_PORTS: &str = "forward_ports";
/// `PerCpuArray` of 1 [`ForwardCounters`](crate::forward::ForwardCounters).
pub const FORWARD_COUNTS: &str = "forward_counts";
/// `RingBuf` of [`DropEvent`](crate::event::DropEvent).
pub const EVENTS: &str = "events";
/// `PerCpuArray` of 1 [`EventBudget`](crate::event::EventBudget).
pub const EVENT_BUDGET: &str = "event_budget";

/// `RingBuf` of [`Sample`](crate::sample::Sample).
pub const SAMPLES: &str = "samples";
/// `PerCpuArray` of 1 [`EventBudget`](crate::event::EventBudget), for samples.
pub const SAMPLE_BUDGET: &str = "sample_budget";
/// Target of the log lines about single packets, by which a daemon is asked for them:
/// `RUST_LOG=info,packets=trace`.
pub const PACKET_LOG: &str = "packets";

/// Every map of the object that is pinned, in the order in which they are made.
pub const PINNED: &[&str] = &[
    SETTINGS,
    EDGES,
    PORTS,
    APPS,
    REFLECTORS,
    ACCESS_HINTS,
    ACCESS,
    GEO,
    COUNTERS,
    SOURCES,
    SIGNATURE_MASKS,
    SIGNATURES,
    SIGNATURE_RULES,
    SIGNATURE_HITS,
    SIGNATURE_RATES,
    PROVEN,
    TCP_SESSIONS,
    CEILINGS,
    CEILING_SHARES,
    FLOWS,
    CHALLENGES,
    STRAYS,
    HANDSHAKE,
    FORWARD_LINES,
    FORWARDS,
    FORWARD_LEASE,
    FORWARD_PORTS,
    FORWARD_COUNTS,
    EVENTS,
    EVENT_BUDGET,
    SAMPLES,
    SAMPLE_BUDGET,
];

/// How many elements each map holds.
pub mod size {
    /// Edge addresses.
    pub const EDGES: usize = 1024;
    /// Sets of edge addresses, a power of two; 512 KiB. So many for so few addresses that a set
    /// hardly ever overflows.
    pub const EDGE_SETS: usize = 4096;
    /// Pages of 256 ports; 8 MiB.
    pub const PORT_PAGES: usize = 16_384;
    /// Apps, slot 0 included.
    pub const APPS: usize = 1024;
    /// Distinct sets of reflector ports; 512 KiB.
    pub const REFLECTOR_SETS: usize = 64;
    /// Distinct masks of signatures; an app refers to one by a byte.
    pub const SIGNATURE_MASKS: usize = 64;
    /// Signatures: custom rules and mitigations.
    pub const SIGNATURES: usize = 512;
    /// Listed addresses and prefixes, over all scopes. Each takes 32 bytes (IPv4) or 64 (IPv6).
    pub const ACCESS_ENTRIES: usize = 1 << 22;
    /// Bytes of the ring buffer of events.
    pub const EVENT_BYTES: usize = 1 << 20;
    /// Bytes of the ring buffer of samples.
    pub const SAMPLE_BYTES: usize = 1 << 20;
}
