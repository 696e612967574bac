//! Network namespaces that do not outlive whoever made them.

use std::{
    fs::File,
    io::{self, Write as _},
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

use crate::leftovers;

/// A network namespace; removed, with all that runs in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    file: File,
}

impl Namespace {
    /// # Errors
    /// Not root, or a namespace of this name exists.
    pub fn create(name: &str) -> Result<Self> {
        let _making = leftovers::make();
        let path = Path::new(leftovers::NETNS_DIR).join(name);
        let output = Command::new("ip").args(["netns", "add", name]).output();
        let output = output.context("running `ip netns add` (package iproute2)")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip netns add {name}: {complaint}");
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            name: name.to_owned(),
            path,
            file,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || self.enter().map(|()| work());
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Starts a program inside the namespace: a child inherits the namespace of the thread that
    /// starts it, and sees the same mounts (`/sys/fs/bpf` among them) as everyone else.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the program not be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let _making = leftovers::make();
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn())?
            .with_context(|| format!("starting {program}"))
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// Not root.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering namespace {}", self.name))
    }

    /// Runs lines of `ip -batch` inside the namespace.
    ///
    /// # Errors
    /// What `ip` said of the first line that failed.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut ip = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("running `ip` (package iproute2)")?;
        let mut stdin = ip.stdin.take().context("ip has no input")?;
        stdin.write_all(lines.as_bytes())?;
        drop(stdin);
        let output = ip.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "ip in {}: {complaint}{lines}",
            self.name
        );
        Ok(())
    }

    /// Writes `net.<key>` (with slashes) for the namespace.
    ///
    /// # Errors
    /// No such key, or `/proc/sys` is read-only.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        let written: io::Result<()> = self.run(|| std::fs::write(&path, value))?;
        written.with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        leftovers::remove_netns(&self.path);
    }
}
