//! Sources that have proved to be real, for whoever wants to know: somebody is there who gets what
//! is sent to them.

use std::{
    collections::HashSet,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::config::AppId;

/// Proofs that may wait. One more is forgotten; its source will give another.
const MOST: usize = 1 << 16;

/// Proofs that nobody has taken yet, each once. A source is an IPv4 address or an IPv6 /64.
#[derive(Clone, Debug, Default)]
pub struct Proofs(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    proofs: Mutex<HashSet<(AppId, IpAddr)>>,
    changed: Notify,
}

impl Proofs {
    pub(super) fn note(&self, app: AppId, source: IpAddr) {
        let mut waiting = self.waiting();
        if waiting.len() < MOST {
            waiting.insert((app, source));
        }
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// Takes all that there are, and waits while there are none. Cancel-safe; for one taker.
    pub async fn take(&self) -> HashSet<(AppId, IpAddr)> {
        loop {
            let proofs = mem::take(&mut *self.waiting());
            if !proofs.is_empty() {
                return proofs;
            }
            self.0.changed.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<(AppId, IpAddr)>> {
        self.0.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
