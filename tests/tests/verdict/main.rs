//! Packets through the real program, one by one (`BPF_PROG_TEST_RUN`): the action, and the one
//! cell in which the packet ends.
//!
//! Each row is a trial of its own: its name says what a user loses when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod budget;
mod fixture;
mod forward;
mod frame;
mod handshake;
#[path = "../support/host.rs"]
mod host;
#[path = "../support/places.rs"]
mod places;
#[path = "../support/policy.rs"]
mod policy;
mod rules;
mod sequences;
mod table;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use spectrum_tests::requirements;
use spectrum_user::config::Mode;

use fixture::Fixture;

/// A fixture that trials take turns with; loaded by the first that needs it. If that fails, it fails
/// for all, and is not tried again: a verifier may look at a program for a long while.
#[derive(Clone)]
struct Shared {
    host_mode: Mode,
    fixture: Arc<Mutex<Option<Result<Fixture, String>>>>,
}

impl Shared {
    fn new(host_mode: Mode) -> Self {
        Self {
            host_mode,
            fixture: Arc::default(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Fixture) -> Result<T>) -> Result<T> {
        let mut fixture = self.fixture.lock().unwrap_or_else(PoisonError::into_inner);
        let load = || Fixture::new(self.host_mode).map_err(|error| format!("{error:#}"));
        match fixture.get_or_insert_with(load) {
            Ok(fixture) => use_it(fixture),
            Err(error) => bail!("{error}"),
        }
    }

    fn trial(
        &self,
        name: &str,
        run: impl FnOnce(&mut Fixture) -> Result<()> + Send + 'static,
    ) -> Trial {
        let shared = self.clone();
        Trial::ignorable_test(name, move || {
            if let Some(reason) = requirements::missing(&[]) {
                return Ok(Completion::ignored_with(reason));
            }
            match shared.with(run) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            }
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let enforcing = Shared::new(Mode::Enforce);
    let watching = Shared::new(Mode::Monitor);
    let lenient = Shared::new(Mode::Off);
    let mut trials = Vec::new();
    for (shared, rows) in [
        (&enforcing, table::enforced()),
        (&watching, table::host_monitored()),
        (&lenient, table::host_off()),
    ] {
        for row in rows {
            trials.push(shared.trial(row.name, move |fixture| {
                fixture.check(&row.frame, row.owner, row.cell)
            }));
        }
    }
    for (name, sequence) in sequences::ALL.iter().chain(rules::SEQUENCES) {
        trials.push(enforcing.trial(name, *sequence));
    }
    trials.extend(budget::trials());
    trials.extend(handshake::ALL.iter().map(|(name, play)| {
        Trial::ignorable_test(*name, move || {
            if let Some(reason) = requirements::missing(&["ip"]) {
                return Ok(Completion::ignored_with(reason));
            }
            match handshake::on_a_host(*play) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            }
        })
    }));
    trials.extend(forward::ALL.iter().map(|(name, play)| {
        Trial::ignorable_test(*name, move || {
            if let Some(reason) = requirements::missing(&["ip"]) {
                return Ok(Completion::ignored_with(reason));
            }
            match forward::on_a_host(*play) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            }
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
