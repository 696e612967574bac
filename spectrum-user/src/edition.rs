//! What tells a file from the one that had its name before, and from itself before a change: of what is
//! in it, or of who may read it.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    length: u64,
    pub(crate) modified: Option<Timestamp>,
    /// Seconds and nanoseconds.
    status_changed: (i64, i64),
    inode: u64,
}

impl Edition {
    /// # Errors
    /// There is no such file, or none that may be looked at.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let meta = fs::metadata(file)?;
        let modified = meta.modified().ok();
        Ok(Self {
            length: meta.len(),
            modified: modified.and_then(|time| Timestamp::try_from(time).ok()),
            status_changed: (meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        })
    }
}
