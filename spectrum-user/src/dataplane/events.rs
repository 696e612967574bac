//! Samples of dropped packets, from the ring buffer.

use std::{io, net::SocketAddr, time::Duration};

use aya::maps::{MapData, RingBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spectrum_common::{app::mode, event::DropEvent, reason::Reason};
use tokio::io::unix::AsyncFd;

use super::clock;

/// A packet that a rule dropped, or would have dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    pub time: Timestamp,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u32,
    /// The app's slot.
    pub slot: u32,
    /// Name of the reason.
    pub reason: String,
    /// `false`: the rule only monitors, and the packet passed.
    pub enforced: bool,
    /// Bytes of the frame.
    pub length: u32,
    /// Packets dropped or monitored on the same CPU before this one, without an event of their
    /// own.
    pub suppressed: u64,
}

impl Drop {
    /// `None` if the record is not of this version.
    fn from_record(record: &[u8]) -> Option<Self> {
        if record.len() < size_of::<DropEvent>() {
            return None;
        }
        // SAFETY: long enough, and every bit pattern is a valid `DropEvent`.
        let event: DropEvent = unsafe { record.as_ptr().cast::<DropEvent>().read_unaligned() };
        let reason = Reason::try_from(event.reason).ok()?;
        let time = clock::wall_time(Duration::from_nanos(event.time_ns));
        Some(Self {
            time: Timestamp::try_from(time).ok()?,
            source: SocketAddr::new(event.source.into(), event.source_port),
            destination: SocketAddr::new(event.destination.into(), event.destination_port),
            protocol: event.protocol,
            slot: event.app,
            reason: reason.name().to_owned(),
            enforced: event.mode == mode::ENFORCE,
            length: event.length,
            suppressed: event.suppressed,
        })
    }
}

/// The one reader of a filter's events.
pub struct Reader {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Reader {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The ring buffer cannot be polled.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the descriptor is the map's, which the ring buffer owns and never changes.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self { ring })
    }

    /// Waits for events and hands over at most `most` of them, so that a flood leaves time for
    /// others. Cancel-safe.
    ///
    /// # Errors
    /// The ring buffer cannot be polled.
    pub async fn read(&mut self, most: usize) -> io::Result<Vec<Drop>> {
        let mut guard = self.ring.readable_mut().await?;
        let mut drops = Vec::new();
        let ring = guard.get_inner_mut();
        for _ in 0..most {
            let Some(record) = ring.next() else {
                guard.clear_ready();
                break;
            };
            drops.extend(Drop::from_record(&record));
        }
        Ok(drops)
    }
}
