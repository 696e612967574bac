//! Samples of all packets, passed and dropped, from the ring buffer.

use std::{collections::BTreeMap, time::Duration};

use aya::maps::{MapData, RingBuf};
use spectrum_common::{
    reason::Reason,
    sample::{self, BYTES},
    signature::Fields,
};
use spectrum_ebpf::{
    packet::Bytes,
    parse::{Packet, parse},
    signatures,
    verdict::{Outcome, Verdict},
};

use super::{clock, maps::Maps};

/// How long a sample waits for the next one to say what it stands for: longer than a tick, in which
/// all of that came.
const WAIT: Duration = Duration::from_millis(50);

/// A packet, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Time since boot.
    pub time: Duration,
    /// Packets of the app that it stands for: itself, and those that the CPU met after it in the
    /// same tick.
    pub weight: u32,
    pub verdict: Verdict,
    pub packet: Packet,
    /// What signatures look at, but for the slot of the app; with the beginning of the payload.
    pub fields: Fields,
    bytes: [u8; BYTES],
    captured: u16,
}

impl Sample {
    /// `None` if the record is not of this version.
    fn from_layout(sample: &sample::Sample) -> Option<Self> {
        let reason = u64::from(sample.reason);
        let bits = u64::from(sample.app) << 32 | reason << 8 | u64::from(sample.mode);
        let frame = Captured {
            bytes: sample
                .bytes
                .get(..usize::from(sample.captured).min(BYTES))?,
            length: sample.length,
        };
        let mut packet = Packet::default();
        parse(&frame, &mut packet);
        Some(Self {
            time: Duration::from_nanos(sample.time_ns),
            weight: 1,
            verdict: Verdict::from_bits(bits),
            packet,
            fields: signatures::fields(&frame, &packet, 0, 0),
            bytes: sample.bytes,
            captured: sample.captured,
        })
    }

    /// One without bytes, that stands for itself.
    #[cfg(test)]
    pub(crate) fn of(verdict: Verdict, packet: Packet, time: Duration) -> Self {
        Self {
            time,
            weight: 1,
            verdict,
            packet,
            fields: Fields::default(),
            bytes: [0; BYTES],
            captured: 0,
        }
    }

    /// The beginning of the frame.
    pub fn bytes(&self) -> &[u8] {
        let captured = self.bytes.get(..usize::from(self.captured));
        captured.unwrap_or(&self.bytes)
    }

    /// Whether the signatures of its app were asked, and did not decide for good: it passed, or a
    /// later rule or a mitigation dropped it.
    pub fn met_mitigations(&self) -> bool {
        match self.verdict.outcome {
            Outcome::Passed | Outcome::Monitored(_) => true,
            // Forged or not, it costs the app nothing.
            Outcome::Answered => false,
            Outcome::Dropped(reason) => {
                use Reason::{Ceiling, NoTcpSession, OutOfState, PacketRate, Signature, SynRate};
                matches!(
                    reason,
                    Signature | PacketRate | SynRate | Ceiling | NoTcpSession | OutOfState
                )
            }
        }
    }
}

/// A frame of which only the beginning is known.
struct Captured<'a> {
    bytes: &'a [u8],
    length: u32,
}

impl Bytes for Captured<'_> {
    fn first_length(&self) -> u32 {
        self.bytes.first_length()
    }

    fn length(&self) -> u32 {
        self.length
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.read(offset)
    }
}

/// The one reader of a filter's samples.
pub struct Samples {
    ring: RingBuf<MapData>,
    /// The last sample of each CPU and app: only the next one says what it stands for.
    last: BTreeMap<(u16, u32), Sample>,
}

impl Samples {
    pub(super) const fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring,
            last: BTreeMap::new(),
        }
    }

    /// Those of which it has become known what they stand for, from at most `most` records; `maps`
    /// are the filter's.
    pub fn drain(&mut self, maps: &Maps, most: usize) -> Vec<Sample> {
        let mut samples = Vec::new();
        for _ in 0..most {
            let Some(record) = self.ring.next() else {
                self.settle(maps, &mut samples);
                break;
            };
            if record.len() < size_of::<sample::Sample>() {
                continue;
            }
            // SAFETY: long enough, and every bit pattern is a valid `Sample`.
            let layout = unsafe { record.as_ptr().cast::<sample::Sample>().read_unaligned() };
            let place = (layout.cpu, layout.app);
            if let Some(last) = self.last.remove(&place) {
                samples.push(Sample {
                    weight: layout.weight,
                    ..last
                });
            }
            if let Some(sample) = Sample::from_layout(&layout) {
                self.last.insert(place, sample);
            }
        }
        samples
    }

    /// The samples that no other has followed for a while: the filter knows what came after them.
    fn settle(&mut self, maps: &Maps, samples: &mut Vec<Sample>) {
        let now = clock::since_boot();
        let settled = self
            .last
            .extract_if(.., |_, sample| sample.time + WAIT <= now);
        samples.extend(settled.map(|((cpu, slot), sample)| Sample {
            weight: 1 + maps.packets_since_sample(slot, cpu),
            ..sample
        }));
    }
}
