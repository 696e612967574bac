//! Settings of the host's TCP that the daemon changes, and what they were before.
//!
//! What they were is remembered in a file until it is theirs again, so that a daemon that was killed
//! loses nothing: its successor, or `sysctl -p` on the file, restores it. The file lies beside the
//! control socket, and so is gone after a restart of the machine, as what was changed is.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Offsets of timestamps: 0 none are sent, 1 random for each connection, 2 always 0.
pub(super) const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";
/// When the kernel sends SYN cookies: 0 never, 1 when a listener's queue is full, 2 always.
pub(super) const COOKIES: &str = "net.ipv4.tcp_syncookies";

pub(super) struct Sysctls {
    memory: PathBuf,
    /// By name, of those that were changed.
    originals: BTreeMap<String, u32>,
}

impl Sysctls {
    /// Recalls what an earlier daemon changed and did not restore.
    pub(super) fn recall(memory: PathBuf) -> Self {
        let text = fs::read_to_string(&memory).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let originals = lines.filter_map(|(name, value)| {
            let value = value.trim().parse().ok()?;
            Some((name.trim().to_owned(), value))
        });
        Self {
            originals: originals.collect(),
            memory,
        }
    }

    /// The value that whoever runs this host has chosen.
    pub(super) fn original(&self, name: &str) -> Result<u32> {
        match self.originals.get(name) {
            Some(&value) => Ok(value),
            None => read(name),
        }
    }

    /// Sets a value, after remembering the one that was there; says whether it was another.
    pub(super) fn set(&mut self, name: &str, value: u32) -> Result<bool> {
        let before = read(name)?;
        if before == value {
            return Ok(false);
        }
        if !self.originals.contains_key(name) {
            self.originals.insert(name.to_owned(), before);
            self.remember()?;
        }
        write(name, value)?;
        Ok(true)
    }

    /// Makes everything what it was.
    pub(super) fn restore(&mut self) -> Result<()> {
        for (name, &value) in &self.originals {
            write(name, value)?;
        }
        self.originals.clear();
        match fs::remove_file(&self.memory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.memory.display()))
            }
            _ => Ok(()),
        }
    }

    fn remember(&self) -> Result<()> {
        let lines = self.originals.iter();
        let text: String = lines
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        fs::write(&self.memory, text)
            .with_context(|| format!("cannot write {}", self.memory.display()))
    }
}

/// The value of a numeric sysctl.
pub(super) fn read(name: &str) -> Result<u32> {
    let text = fs::read_to_string(path(name));
    let text = text.with_context(|| format!("cannot read {name}"))?;
    let number = text.trim().parse();
    number.with_context(|| format!("{name} is no number: {}", text.trim()))
}

fn write(name: &str, value: u32) -> Result<()> {
    fs::write(path(name), value.to_string())
        .with_context(|| format!("cannot set {name} to {value}"))
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}
