//! Waiting for what takes an unknown while: poll, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `look` until it gives `Ok`, or until `patience` is over.
///
/// # Errors
/// The last error of `look`, under the sentence "waited … for `what`".
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("waited {patience:?} for {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
