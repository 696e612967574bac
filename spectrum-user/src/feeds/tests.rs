//! What becomes of an edition between its source and the filters.

use std::{fs, path::PathBuf};

use super::*;
use crate::config::{FeedAction, FeedSource};

/// A feed whose source is a file in the directory of the test.
struct Scene {
    dir: tempfile::TempDir,
    feeds: Feeds,
}

impl Scene {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            feeds: Feeds::new(100),
        }
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(file);
        fs::write(&path, text).expect("a file");
        path
    }

    fn follow(&mut self, source: PathBuf) {
        let feed = Feed {
            name: "lab".to_owned(),
            source: FeedSource::File(source),
            action: FeedAction::Block,
            apps: Vec::new(),
            refresh: Duration::from_hours(1),
        };
        let known = self.feeds.known();
        self.feeds
            .adopt(known.draft(&[feed], &[], 0, self.dir.path()));
    }

    /// The only feed.
    fn status(&self) -> FeedStatus {
        let statuses = self.feeds.statuses();
        statuses.into_iter().next().expect("a feed")
    }
}

/// The old source would be in force until the new one changes, and the name of the feed would lie.
#[tokio::test]
async fn what_the_old_source_said_is_not_taken_for_the_new_one() {
    let mut scene = Scene::new();
    let old = scene.write("old", "192.0.2.1\n192.0.2.2\n");
    let new = scene.write("new", "198.51.100.1\n");
    scene.follow(old);
    let of_old = scene.feeds.updated().await;
    scene.follow(new);
    assert!(!scene.feeds.take(of_old));
    assert_eq!(scene.status().checked, None);

    let of_new = scene.feeds.updated().await;
    assert!(scene.feeds.take(of_new));
    scene.feeds.settle();
    assert_eq!(scene.status().entries, 1);
}

/// `spectrum lists` would show an old list without a word on why.
#[tokio::test]
async fn an_edition_that_the_filters_refuse_is_shown_until_they_have_it() {
    let mut scene = Scene::new();
    let source = scene.write("list", "192.0.2.1\n192.0.2.2\n");
    scene.follow(source);
    let edition = scene.feeds.updated().await;
    assert!(scene.feeds.take(edition));
    scene.feeds.refuse(&anyhow::anyhow!("no memory"));
    let refused =
        |status: FeedStatus| (status.entries, status.error.as_deref() == Some("no memory"));
    assert_eq!(refused(scene.status()), (0, true));

    // The next look finds nothing new, and what is refused is refused still.
    scene.feeds.refresh(None);
    let nothing_new = scene.feeds.updated().await;
    assert!(!scene.feeds.take(nothing_new));
    assert_eq!(refused(scene.status()), (0, true));

    scene.feeds.settle();
    assert_eq!(refused(scene.status()), (2, false));
}
