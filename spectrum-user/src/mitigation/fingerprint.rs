//! What the packets of a flood have in common.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    net::IpAddr,
};

use spectrum_common::signature::{Fields, SignatureMask};
use spectrum_ebpf::{
    parse::{flag, protocol},
    signatures::masked,
};

use super::{Facts, sensitivity::Bounds};

/// A combination of header fields and first payload bytes, and their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Without the slot of the app.
    pub mask: SignatureMask,
    pub key: Fields,
}

/// A sample of a flood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) packet: Facts,
    pub(super) source: IpAddr,
}

/// A fingerprint, and what it matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) fingerprint: Fingerprint,
    pub(super) matching: usize,
    /// Different sources among these.
    pub(super) sources: usize,
    pub(super) spared_matching: usize,
}

const LENGTH: u64 = 0xffff << 48;
const HOPS: u64 = 0xff << 24;
/// TCP's window, flags and header length: what tells one stack's options from another's.
const TCP: u64 = 0xffff << 32 | 0xffff << 8;
const SOURCE_PORT: u64 = 0xffff << 32;

/// Parts of a fingerprint, as bits of the endpoint and of the header. Each is worth a point.
const PARTS: [(u64, u64); 4] = [(0, LENGTH), (0, HOPS), (SOURCE_PORT, 0), (0, TCP)];
const TCP_PART: usize = 3;
/// Bytes from the beginning of the payload, and their points.
const PREFIXES: [(u32, u32); 4] = [(0, 0), (4, 2), (8, 3), (16, 4)];

/// Fewer sources are for the limits per source: one new client would do for a fingerprint.
const LEAST_SOURCES: usize = 8;

/// A fingerprint of fewer points may be that of half the world.
const LEAST_POINTS: u32 = 2;

impl Fingerprint {
    /// Whether a packet looks like this.
    pub fn matches(&self, packet: &Facts) -> bool {
        u32::from(packet.payload_length) >= self.mask.payload_end
            && masked(&packet.fields, &self.mask.fields) == self.key
    }

    fn of(mask: &SignatureMask, packet: &Facts) -> Option<Self> {
        let has_payload = u32::from(packet.payload_length) >= mask.payload_end;
        has_payload.then(|| Self {
            mask: *mask,
            key: masked(&packet.fields, &mask.fields),
        })
    }

    fn bits(&self) -> u32 {
        let Fields {
            endpoint,
            header,
            payload: [first, second],
        } = self.mask.fields;
        [endpoint, header, first, second]
            .map(u64::count_ones)
            .iter()
            .sum()
    }
}

/// Every mask that says enough.
fn masks(is_tcp: bool) -> Vec<SignatureMask> {
    let parts = if is_tcp {
        &PARTS[..]
    } else {
        &PARTS[..TCP_PART]
    };
    let mut masks = Vec::new();
    for (bytes, prefix_points) in PREFIXES {
        for chosen in 0..1_u32 << parts.len() {
            let mut points = prefix_points;
            let mut fields = Fields {
                payload: prefix(bytes),
                ..Fields::default()
            };
            let chosen = parts
                .iter()
                .zip(0..)
                .filter(|(_, bit)| chosen >> bit & 1 == 1);
            for ((endpoint, header), _) in chosen {
                fields.endpoint |= endpoint;
                fields.header |= header;
                points += 1;
            }
            if points >= LEAST_POINTS {
                masks.push(SignatureMask {
                    fields,
                    payload_offset: 0,
                    payload_end: bytes,
                });
            }
        }
    }
    masks
}

/// The bits of the first `bytes` of the window.
fn prefix(bytes: u32) -> [u64; 2] {
    let ones = |bytes: u32| {
        u64::MAX
            .checked_shl(64 - 8 * bytes.min(8))
            .unwrap_or_default()
    };
    [ones(bytes), ones(bytes.saturating_sub(8))]
}

/// The fingerprint that matches most of the suspects and, of those that match nearly as many, looks
/// at the most bits; among those that match hardly any of the `spared`.
pub(super) fn find<'a>(
    suspects: &VecDeque<Suspect>,
    spared: impl Iterator<Item = &'a Facts> + Clone,
    bounds: &Bounds,
) -> Option<Candidate> {
    let least = (suspects.len() * bounds.coverage).div_ceil(100).max(1);
    let is_tcp = suspects.front().is_some_and(|suspect| {
        suspect.packet.fields.endpoint >> 8 & 0xff == u64::from(protocol::TCP)
    });
    let mut candidates = Vec::new();
    for mask in masks(is_tcp) {
        let mut counts: HashMap<Fingerprint, usize> = HashMap::new();
        for suspect in suspects {
            if let Some(fingerprint) = Fingerprint::of(&mask, &suspect.packet) {
                *counts.entry(fingerprint).or_default() += 1;
            }
        }
        let common = counts
            .into_iter()
            .filter(|(_, matching)| *matching >= least);
        candidates.extend(common);
    }
    let total = spared.clone().count();
    let most = total * bounds.spared_per_mille / 1000;
    let spares = |(fingerprint, matching): (Fingerprint, usize)| {
        let spared_matching = spared
            .clone()
            .filter(|packet| fingerprint.matches(packet))
            .count();
        let matches = |suspect: &&Suspect| fingerprint.matches(&suspect.packet);
        let sources = suspects
            .iter()
            .filter(matches)
            .map(|suspect| suspect.source);
        let sources = sources.collect::<HashSet<_>>().len();
        (spared_matching <= most && sources >= LEAST_SOURCES).then_some(Candidate {
            fingerprint,
            matching,
            sources,
            spared_matching,
        })
    };
    let good: Vec<Candidate> = candidates.into_iter().filter_map(spares).collect();
    let best = good.iter().map(|candidate| candidate.matching).max()?;
    let nearly = good
        .into_iter()
        .filter(|candidate| candidate.matching * 20 >= best * 19);
    // Of equals any would do: the values decide, so that the same flood gets the same answer.
    nearly.max_by_key(|candidate| {
        let Fingerprint { key, .. } = candidate.fingerprint;
        (
            candidate.fingerprint.bits(),
            key.endpoint,
            key.header,
            key.payload,
        )
    })
}

/// `length 48, ttl 113, source port 53, payload ff ff ff ff`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mask, key } = self;
        let mut parts = Vec::new();
        let mut part = |bits: u64, shown: u64, name: &str, value: u64| {
            if shown & bits == bits {
                parts.push(format!("{name} {value}"));
            }
        };
        let (header, endpoint) = (mask.fields.header, mask.fields.endpoint);
        part(LENGTH, header, "length", key.header >> 48);
        part(HOPS, header, "ttl", key.header >> 24 & 0xff);
        part(0xffff << 32, header, "window", key.header >> 32 & 0xffff);
        part(
            0xff << 8,
            header,
            "TCP header",
            (key.header >> 8 & 0xff) * 4,
        );
        part(
            SOURCE_PORT,
            endpoint,
            "source port",
            key.endpoint >> 32 & 0xffff,
        );
        if header & 0xff << 16 != 0 {
            parts.push(format!("flags {}", flags(key.header >> 16 & 0xff)));
        }
        if mask.payload_end != 0 {
            let bytes = key.payload.map(u64::to_be_bytes).concat();
            let bytes = bytes.iter().take(mask.payload_end as usize);
            let hex: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
            parts.push(format!("payload {}", hex.join(" ")));
        }
        f.write_str(&parts.join(", "))
    }
}

fn flags(bits: u64) -> String {
    let names = [
        (flag::SYN, "SYN"),
        (flag::ACK, "ACK"),
        (flag::FIN, "FIN"),
        (flag::RST, "RST"),
    ];
    let set = names
        .iter()
        .filter(|(flag, _)| bits & u64::from(*flag) != 0);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.join("+")
    }
}
