//! A client that comes back again and again, and counts how often it was served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

/// How a [`Probe`] has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub attempts: u64,
    pub successes: u64,
}

impl Served {
    /// The share of attempts that were served, in percent; 0 before the first.
    pub fn percent(self) -> f64 {
        if self.attempts == 0 {
            return 0.0;
        }
        self.successes as f64 / self.attempts as f64 * 100.0
    }
}

#[derive(Debug, Default)]
struct Tally {
    attempts: AtomicU64,
    successes: AtomicU64,
    stop: AtomicBool,
}

/// Runs a client over and over on a thread of its own, until dropped.
#[derive(Debug)]
pub struct Probe {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Runs `client` once per `interval`; late runs are not made up for.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        name: &str,
        interval: Duration,
        client: impl Fn() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let counted = Arc::clone(&tally);
        let name = name.to_owned();
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            while !counted.stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let result = client();
                counted.attempts.fetch_add(1, Ordering::Relaxed);
                match result {
                    Ok(()) => _ = counted.successes.fetch_add(1, Ordering::Relaxed),
                    Err(error) => log::info!("{name}: {error:#}"),
                }
                thread::sleep(interval.saturating_sub(begun.elapsed()));
            }
        })?;
        Ok(Self {
            tally,
            thread: Some(thread),
        })
    }

    /// The attempt that is under way is the last one.
    pub fn ask_to_stop(&self) {
        self.tally.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last attempt, and counts it.
    pub fn stop(mut self) -> Served {
        self.join();
        self.served()
    }

    fn join(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub fn served(&self) -> Served {
        Served {
            attempts: self.tally.attempts.load(Ordering::Relaxed),
            successes: self.tally.successes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.join();
    }
}
