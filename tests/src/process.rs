//! Programs that run in the lab: what they say goes to a file, and they end with their handle.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{Lab, topology::Host, wait};

/// A running program; killed, with its process group, when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `host`, as the leader of a process group of its own, so that a Ctrl-C
    /// in the terminal does not reach it. Its output is appended to `<name>.log` in the lab's directory.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(lab: &Lab, host: &Host, name: &str, command: &mut Command) -> Result<Self> {
        let log = lab.dir().join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = host.namespace.spawn(command)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Polls `ready` until it gives `Ok`.
    ///
    /// # Errors
    /// `patience` is over, or the program has ended; with the end of its output.
    pub fn wait_ready(&mut self, patience: Duration, ready: impl Fn() -> Result<()>) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        let mut ended = None;
        let result = wait::until(&what, patience, || {
            ended = self.child.try_wait()?;
            if ended.is_some() { Ok(()) } else { ready() }
        });
        if let Some(status) = ended {
            bail!("{} ended ({status}):\n{}", self.name, self.output());
        }
        result.with_context(|| format!("{} said:\n{}", self.name, self.output()))
    }

    /// # Errors
    /// The program has ended; with its output.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.output()),
            None => Ok(()),
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// All that the program has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// # Errors
    /// The program has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Waits for the program to end.
    ///
    /// # Errors
    /// It still runs when `patience` is over.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until(&what, patience, || {
            self.child.try_wait()?.context("it still runs")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
