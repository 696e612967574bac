//! Notices when a document changes.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Editors write a document in several steps: the reload waits until they are done.
const SETTLE: Duration = Duration::from_millis(200);

pub(super) struct Watch {
    changes: mpsc::Receiver<()>,
    /// A change has been seen, and may be told of from then on.
    settled_at: Option<Instant>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches the file `host` and the documents in `apps_dir`.
    pub(super) fn new(host: &Path, apps_dir: &Path) -> Result<Self> {
        // One place: a change that is noted already needs no second note.
        let (note, changes) = mpsc::channel(1);
        let host_name = host.file_name().map(ToOwned::to_owned);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_relevant(&event, host_name.as_deref())) {
                let _full_or_closed = note.try_send(());
            }
        })
        .context("cannot watch the documents")?;
        // Directories, not files: editors replace a file by renaming another over it.
        for dir in [parent(host), apps_dir.to_owned()] {
            watcher
                .watch(&dir, RecursiveMode::NonRecursive)
                .with_context(|| format!("cannot watch {}", dir.display()))?;
        }
        Ok(Self {
            changes,
            settled_at: None,
            _watcher: watcher,
        })
    }

    /// Waits for a change and for the end of its writing. Cancel-safe, however often.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some(settled_at) = self.settled_at else {
                if self.changes.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                self.settled_at = Some(Instant::now() + SETTLE);
                continue;
            };
            sleep_until(settled_at).await;
            self.settled_at = None;
            if self.changes.try_recv().is_err() {
                return;
            }
            self.settled_at = Some(Instant::now() + SETTLE);
        }
    }
}

/// Whether an event is about a document of ours.
fn is_relevant(event: &Event, host_name: Option<&OsStr>) -> bool {
    let changes = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    changes
        && event.paths.iter().any(|path| {
            path.file_name() == host_name || path.extension().is_some_and(|ext| ext == "toml")
        })
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}
