#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::*;
use crate::event::tests::record;

const DEADLINE: Duration = Duration::from_secs(10);

fn lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    let parsed = text.lines().map(serde_json::from_str::<serde_json::Value>);
    parsed.collect::<Result<Vec<_>, _>>().unwrap().len()
}

fn wait_for_lines(path: &Path, count: usize) {
    let deadline = Instant::now() + DEADLINE;
    while lines(path) != count {
        assert!(Instant::now() < deadline, "{} lines", lines(path));
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_event_is_in_the_file_at_once_and_close_writes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.json");
    let (sink, writer) = Writer::start(&EventOutput::File(path.clone())).unwrap();
    sink.send(record());
    wait_for_lines(&path, 1);
    for _ in 0..1000 {
        sink.send(record());
    }
    assert!(writer.close(DEADLINE));
    assert_eq!(lines(&path), 1001);
    assert_eq!(sink.lost(), 0);
}

#[test]
fn a_rotated_file_is_left_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.json");
    let rotated = dir.path().join("events.json.1");
    let (sink, writer) = Writer::start(&EventOutput::File(path.clone())).unwrap();
    sink.send(record());
    wait_for_lines(&path, 1);
    fs::rename(&path, &rotated).unwrap();
    writer.reopen();
    sink.send(record());
    wait_for_lines(&path, 1);
    assert_eq!(lines(&rotated), 1);
    assert!(writer.close(DEADLINE));
}

/// A full disk costs records, which are counted, and nothing else.
#[test]
fn what_the_output_refuses_is_counted() {
    let full = EventOutput::File("/dev/full".into());
    let (sink, writer) = Writer::start(&full).unwrap();
    sink.send(record());
    sink.send(record());
    assert!(writer.close(DEADLINE));
    assert_eq!(sink.lost(), 2);
}

#[test]
fn no_file_is_an_error_at_start() {
    let nowhere = EventOutput::File("/nonexistent/events.json".into());
    assert!(Writer::start(&nowhere).is_err());
    let (sink, writer) = Writer::start(&EventOutput::Off).unwrap();
    assert!(!sink.is_wanted());
    assert!(writer.close(Duration::ZERO));
}
