//! Connection events: one record per thing that happens to a connection or session.
//!
//! The proxy puts records into a [`Sink`], which never blocks; a [`Writer`] takes them out and
//! writes JSON lines. What does not fit in between is counted as lost, never waited for.

mod mitigation;
mod origin;
mod record;
mod writer;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

pub use mitigation::{MitigationKind, MitigationRecord};
pub use origin::{OriginKind, OriginRecord};
pub use record::{ClientMatchedIpFirewall, Kind, Protocol, Record, Status, TlsStatus};
pub use writer::Writer;

/// Records that may wait for the writer: about a second of a busy host, some 10 MB.
const CAPACITY: usize = 32 * 1024;

/// Takes records without ever blocking. Clones feed the same receiver.
#[derive(Clone, Debug)]
pub struct Sink {
    /// `None`: nobody wants records.
    queue: Option<mpsc::SyncSender<Message>>,
    lost: Arc<AtomicU64>,
    host: Arc<str>,
}

/// Where the records of a [`Sink`] come out.
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<Message>,
}

/// What waits in the queue.
#[derive(Debug)]
enum Message {
    Record(Box<Record>),
    Mitigation(Box<MitigationRecord>),
    Origin(Box<OriginRecord>),
    Close,
}

/// A sink and its receiver, for records that stay in the process.
pub fn channel() -> (Sink, Receiver) {
    bounded(CAPACITY)
}

fn bounded(capacity: usize) -> (Sink, Receiver) {
    let (sender, queue) = mpsc::sync_channel(capacity);
    let sink = Sink {
        queue: Some(sender),
        lost: Arc::default(),
        host: host_name(),
    };
    (sink, Receiver { queue })
}

impl Sink {
    /// A sink for records that nobody wants.
    pub fn discard() -> Self {
        Self {
            queue: None,
            lost: Arc::default(),
            host: host_name(),
        }
    }

    /// Whether it is worth while to gather what a record needs.
    pub fn is_wanted(&self) -> bool {
        self.queue.is_some()
    }

    /// The name of this host, for [`Record::colo_code`].
    pub fn host(&self) -> Arc<str> {
        Arc::clone(&self.host)
    }

    pub fn send(&self, record: Record) {
        self.enqueue(Message::Record(Box::new(record)));
    }

    pub fn send_mitigation(&self, record: MitigationRecord) {
        self.enqueue(Message::Mitigation(Box::new(record)));
    }

    pub fn send_origin(&self, record: OriginRecord) {
        self.enqueue(Message::Origin(Box::new(record)));
    }

    fn enqueue(&self, message: Message) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(message).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that were neither written nor received, because the queue was full or the output
    /// refused them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// The next record of a connection; `None` if one of another kind comes first, after `timeout`, or when
    /// the last sink is gone.
    pub fn next(&self, timeout: Duration) -> Option<Record> {
        match self.queue.recv_timeout(timeout) {
            Ok(Message::Record(record)) => Some(*record),
            Ok(Message::Mitigation(_) | Message::Origin(_) | Message::Close) | Err(_) => None,
        }
    }
}

fn host_name() -> Arc<str> {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .into()
}

#[cfg(test)]
mod tests;
