//! What takes too long for the main loop: reading documents and what others keep for them, and
//! building tables of a million entries. Done beside it, one thing at a time.

use std::{future, panic, sync::Arc};

use anyhow::Result;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    Loaded, Options, load, others,
    shield::{Brief, Prepared},
};
use crate::{config::Config, tls::Endpoints};

/// Why the filters should hold something else; the later says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A feed lists something else, a database knows more, or an interface has other addresses.
    Others,
    /// The documents may say something else; and who says so.
    Documents(&'static str),
}

/// Documents, and what others keep for them.
pub(super) struct Documents {
    pub(super) loaded: Loaded,
    pub(super) others: others::Draft,
}

/// What the filters are made to hold.
pub(super) enum Goal {
    /// What others say by now, under the documents in force.
    Others(Arc<Config>),
    Documents(Box<Documents>),
}

/// What was done.
pub(super) enum Done {
    Loaded(Result<Box<Documents>>),
    Prepared(Goal, Result<Prepared>),
}

impl Goal {
    fn config(&self) -> &Config {
        match self {
            Self::Others(config) => config,
            Self::Documents(documents) => &documents.loaded.config,
        }
    }
}

#[derive(Default)]
pub(super) struct Work {
    running: Option<JoinHandle<Done>>,
    /// What is to be done next.
    wanted: Option<Cause>,
    /// The filters do not have yet what others say.
    is_owed: bool,
}

impl Work {
    /// Notes that there is something to do.
    pub(super) fn want(&mut self, cause: Cause) {
        self.wanted = self.wanted.max(Some(cause));
        self.is_owed |= cause == Cause::Others;
    }

    /// Has what others say done again if it came to nothing, as when it was to be done together with
    /// documents that were of no use.
    pub(super) fn want_what_is_owed(&mut self) {
        if self.is_owed && self.is_idle() {
            self.want(Cause::Others);
        }
    }

    /// What is to be done now, if nothing is being done.
    pub(super) fn next(&mut self) -> Option<Cause> {
        self.wanted.take_if(|_| self.running.is_none())
    }

    /// Whether what others say is on its way to the filters, or has failed to get there.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// Notes that the filters have what was worked out last; says whether that was everything, and
    /// nothing has changed since.
    pub(super) fn settle(&mut self) -> bool {
        let is_all = self.is_idle();
        self.is_owed &= !is_all;
        is_all
    }

    /// Nothing is done, nor is there anything to do.
    fn is_idle(&self) -> bool {
        self.running.is_none() && self.wanted.is_none()
    }

    /// Reads the documents, and what they ask of others beyond what is `known`.
    pub(super) fn load(&mut self, options: Options, tls: Endpoints, known: others::Known) {
        self.running = Some(spawn_blocking(move || {
            let documents = load(&options, &tls).map(|loaded| Documents {
                others: known.draft(&loaded.config),
                loaded,
            });
            Done::Loaded(documents.map(Box::new))
        }));
    }

    /// Works out what the filters should hold, if what has to be known for it is.
    pub(super) fn prepare(&mut self, goal: Goal, brief: Result<Brief>) {
        self.running = Some(spawn_blocking(move || {
            let prepared = brief.and_then(|brief| brief.prepare(goal.config()));
            Done::Prepared(goal, prepared)
        }));
    }

    /// Waits for the end of what is being done. Cancel-safe.
    pub(super) async fn done(&mut self) -> Done {
        let Some(running) = &mut self.running else {
            return future::pending().await;
        };
        let done = running.await;
        self.running = None;
        done.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes in the meantime is not forgotten, and documents bring what others say with them.
    #[tokio::test]
    async fn one_thing_is_done_at_a_time_and_none_is_forgotten() {
        let mut work = Work::default();
        work.want(Cause::Others);
        assert_eq!(work.next(), Some(Cause::Others));
        let options = Options {
            config: "/nowhere/spectrum.toml".into(),
            detach_on_exit: false,
            upgrade: false,
            program: "/nowhere/spectrum".into(),
        };
        work.load(options, Endpoints::default(), others::Others::new().known());
        work.want(Cause::Documents("second"));
        work.want(Cause::Others);
        assert_eq!(work.next(), None);
        assert!(matches!(work.done().await, Done::Loaded(Err(_))));
        assert!(!work.settle());
        assert_eq!(work.next(), Some(Cause::Documents("second")));
        assert_eq!(work.next(), None);
        assert!(work.settle());
    }

    /// Else a list that could not be taken over would be forgotten until its next edition.
    #[test]
    fn what_others_say_is_owed_until_the_filters_have_it() {
        let mut work = Work::default();
        work.want_what_is_owed();
        assert_eq!(work.next(), None);
        work.want(Cause::Others);
        work.want(Cause::Documents("of no use"));
        assert_eq!(work.next(), Some(Cause::Documents("of no use")));
        for _failed in 0..2 {
            work.want_what_is_owed();
            assert_eq!(work.next(), Some(Cause::Others));
        }
        assert!(work.settle());
        work.want_what_is_owed();
        assert_eq!(work.next(), None);
    }
}
