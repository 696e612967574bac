//! Connection events: one record per thing that happens to a connection or session.
//!
//! The proxy puts records into a [`Sink`], which never blocks; a [`Writer`] takes them out and
//! writes JSON lines. What does not fit in between is counted as lost, never waited for. Where clients
//! are is looked up on the way out, so that no connection waits for that either.

mod mitigation;
mod origin;
mod record;
mod writer;

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

pub use mitigation::{MitigationKind, MitigationRecord};
pub use origin::{OriginKind, OriginRecord};
pub use record::{ClientMatchedIpFirewall, Kind, Protocol, Record, Status, TlsStatus};
pub use writer::Writer;

use crate::geo::Places;

/// Records that may wait for the writer: about a second of a busy host, some 10 MB.
const CAPACITY: usize = 32 * 1024;

/// Takes records without ever blocking. Clones feed the same receiver.
#[derive(Clone, Debug)]
pub struct Sink {
    /// `None`: nobody wants records.
    queue: Option<mpsc::SyncSender<Message>>,
    lost: Arc<AtomicU64>,
    host: Arc<str>,
    places: Shared,
}

/// Where addresses are, by the databases of now.
type Shared = Arc<Mutex<Arc<Places>>>;

/// Where the records of a [`Sink`] come out.
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<Message>,
    places: Shared,
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
    let places = Shared::default();
    let sink = Sink {
        queue: Some(sender),
        lost: Arc::default(),
        host: host_name(),
        places: Arc::clone(&places),
    };
    (sink, Receiver { queue, places })
}

impl Sink {
    /// A sink for records that nobody wants.
    pub fn discard() -> Self {
        Self {
            queue: None,
            lost: Arc::default(),
            host: host_name(),
            places: Shared::default(),
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

    /// Has records say where clients are by these from now on.
    pub fn learn(&self, places: Arc<Places>) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// Takes a record; who takes it out finds in it where the client is.
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
            Ok(Message::Record(record)) => Some(self.located(*record)),
            Ok(Message::Mitigation(_) | Message::Origin(_) | Message::Close) | Err(_) => None,
        }
    }

    fn located(&self, record: Record) -> Record {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        record.located(&places)
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
