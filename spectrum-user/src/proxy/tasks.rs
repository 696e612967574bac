//! Tasks: none is detached, each is joined.

use std::{cell::RefCell, future::Future, ops::AddAssign, pin::pin, time::Duration};

use serde::Serialize;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError, JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// As far from now as makes no difference.
pub(super) const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A set of tasks on the current thread.
#[derive(Default)]
pub(super) struct Tasks(RefCell<JoinSet<()>>);

/// How a drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// Connections and sessions that ended by themselves.
    pub finished: usize,
    /// Those that were cut at the deadline.
    pub cut: usize,
}

/// The deadline of a drain, which comes sooner if the worker has to stop sooner.
#[derive(Clone)]
pub(super) struct Until {
    pub(super) deadline: Instant,
    /// `Some` once the worker stops.
    pub(super) stop: watch::Receiver<Option<Instant>>,
}

impl Until {
    pub(super) async fn reached(mut self) {
        loop {
            let stop = *self.stop.borrow_and_update();
            let at = stop.map_or(self.deadline, |stop| stop.min(self.deadline));
            tokio::select! {
                () = sleep_until(at) => return,
                changed = self.stop.changed() => if changed.is_err() {
                    return sleep_until(at).await;
                },
            }
        }
    }
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        self.reap();
        self.0.borrow_mut().spawn_local(task)
    }

    /// Joins what has finished; a finished task keeps its memory until then.
    pub(super) fn reap(&self) {
        let mut tasks = self.0.borrow_mut();
        while let Some(end) = tasks.try_join_next() {
            report_panic(end);
        }
    }

    /// Waits for all that run now, and cuts them when `until` is reached. Tasks that are spawned
    /// later are not among them.
    pub(super) async fn drain(&self, until: Until) -> Drained {
        let mut tasks = self.0.take();
        let mut drained = Drained::default();
        let mut reached = pin!(until.reached());
        loop {
            tokio::select! {
                biased;
                end = tasks.join_next() => match end {
                    Some(end) => drained.count(end),
                    None => return drained,
                },
                () = &mut reached => break,
            }
        }
        tasks.abort_all();
        while let Some(end) = tasks.join_next().await {
            drained.count(end);
        }
        drained
    }
}

impl Drained {
    fn count(&mut self, end: Result<(), JoinError>) {
        if end.is_ok() {
            self.finished += 1;
        } else {
            self.cut += 1;
        }
        report_panic(end);
    }
}

impl AddAssign for Drained {
    fn add_assign(&mut self, other: Self) {
        self.finished += other.finished;
        self.cut += other.cut;
    }
}

/// Aborts a listener's task. When it returns, all that the task owned is dropped.
pub(super) async fn stop(task: JoinHandle<()>) {
    task.abort();
    report_panic(task.await);
}

/// A panic ends one task, never the worker; but it is a bug, and must not go unseen.
pub(super) fn report_panic(end: Result<(), JoinError>) {
    if let Err(error) = end
        && error.is_panic()
    {
        log::error!("a task of the proxy panicked, please report this: {error}");
    }
}
