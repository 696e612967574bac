//! Processes of a run, and waiting for them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::interrupt;

/// A process that ends with this value.
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Process {
    /// Starts a process whose output goes to files of its name in this directory.
    ///
    /// # Errors
    /// When a file cannot be created, or the process not be started.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("{name}.out"));
        let errors = directory.join(format!("{name}.err"));
        let child = command
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
            errors,
        })
    }

    /// # Errors
    /// When the process has ended, with what it said last.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.complaint(status)),
        }
    }

    /// Waits until the process has printed this line.
    ///
    /// # Errors
    /// When it ends before, takes longer than `patience`, or the run is interrupted.
    pub fn wait_for_line(&mut self, line: &str, patience: Duration) -> Result<()> {
        let waiting_for = format!("{} to say {line:?}", self.name);
        wait_until(&waiting_for, patience, || {
            let printed = fs::read_to_string(&self.output)?;
            if printed.lines().any(|printed| printed == line) {
                return Ok(true);
            }
            self.ensure_running()?;
            Ok(false)
        })
    }

    /// Closes the standard input of the process, waits for its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, takes longer than `patience`, or the run is interrupted.
    pub fn finish(mut self, patience: Duration) -> Result<String> {
        drop(self.child.stdin.take());
        let waiting_for = format!("{} to end", self.name);
        let mut ended = None;
        wait_until(&waiting_for, patience, || {
            ended = self.child.try_wait()?;
            Ok(ended.is_some())
        })?;
        match ended {
            Some(status) if !status.success() => Err(self.complaint(status)),
            _ => Ok(fs::read_to_string(&self.output)?),
        }
    }

    fn complaint(&self, status: ExitStatus) -> anyhow::Error {
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        anyhow::anyhow!("{} ended with {status}:\n{}", self.name, said.trim_end())
    }

    fn ask_to_end(&mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not end", self.name);
            thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if ended || self.ask_to_end().is_ok() {
            return;
        }
        // Nothing is left to do for a process that cannot even be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls a condition.
///
/// # Errors
/// Those of the condition; when it does not come true in time, or the run is interrupted.
pub fn wait_until(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !condition()? {
        interrupt::check()?;
        if Instant::now() > deadline {
            bail!("waited {patience:?} for {what}");
        }
        thread::sleep(TICK);
    }
    Ok(())
}

const TICK: Duration = Duration::from_millis(5);
