//! Spectrum on the edge, as its users see it: documents, signals, and the command line.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        signal::Signal,
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::Pid,
};

use crate::{Lab, leftovers, process::Process, topology::Host, wait};

mod document;
pub mod status;

pub use document::{AppDocument, HostDocument};
use status::Status;

/// How long a start, a stop, or a reload may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Where the binary under test is.
///
/// # Errors
/// It has not been built.
pub fn binary() -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/spectrum");
    let path = env::var_os("SPECTRUM_BIN").map_or(built, PathBuf::from);
    let absent = "run `cargo xtask test`, which builds it, or set SPECTRUM_BIN";
    path.canonicalize()
        .with_context(|| format!("no spectrum binary at {}: {absent}", path.display()))
}

/// The documents of a lab's daemon, and the command line that uses them.
#[derive(Clone, Debug)]
pub struct Site<'lab> {
    lab: &'lab Lab,
    binary: PathBuf,
    config: PathBuf,
    apps: PathBuf,
}

impl<'lab> Site<'lab> {
    /// Writes the host's document, and no app yet.
    ///
    /// # Errors
    /// The lab's directory cannot be written, or the binary is missing.
    pub fn new(lab: &'lab Lab, host: HostDocument<'_>) -> Result<Self> {
        Self::with_binary(lab, binary()?, host)
    }

    /// The same with a given `spectrum` binary.
    ///
    /// # Errors
    /// The lab's directory cannot be written.
    pub fn with_binary(lab: &'lab Lab, binary: PathBuf, host: HostDocument<'_>) -> Result<Self> {
        let directory = lab.dir().join("spectrum");
        let site = Self {
            lab,
            binary,
            config: directory.join("spectrum.toml"),
            apps: directory.join("apps.d"),
        };
        fs::create_dir_all(&site.apps)?;
        site.write_host(host)?;
        Ok(site)
    }

    /// # Errors
    /// The lab's directory cannot be written.
    pub fn write_host(&self, host: HostDocument<'_>) -> Result<()> {
        let document = host.to_toml(self.lab.pin_dir(), &self.control_socket(), &self.events());
        Ok(fs::write(&self.config, document)?)
    }

    /// # Errors
    /// The lab's directory cannot be written.
    pub fn write_app(&self, app: &AppDocument<'_>) -> Result<()> {
        self.write_document(app.name, &app.to_string())
    }

    /// Writes the document of an app as editors do: whole, under its name at once.
    ///
    /// # Errors
    /// The lab's directory cannot be written.
    pub fn write_document(&self, name: &str, document: &str) -> Result<()> {
        let draft = self.apps.join(format!(".{name}.draft"));
        fs::write(&draft, document)?;
        Ok(fs::rename(draft, self.app(name))?)
    }

    /// # Errors
    /// There is no such document.
    pub fn remove_app(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.app(name))?)
    }

    /// The path of an app's document.
    pub fn app(&self, name: &str) -> PathBuf {
        self.apps.join(format!("{name}.toml"))
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What its daemons have logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.lab.dir().join("spectrum.log")).unwrap_or_default()
    }

    /// Where its daemon answers.
    pub fn control_socket(&self) -> PathBuf {
        self.lab.dir().join("control")
    }

    /// The file that connection events go to.
    pub fn events(&self) -> PathBuf {
        self.lab.dir().join("events.json")
    }

    /// A command line of `spectrum` with this site's configuration.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(subcommand).arg("--config").arg(&self.config);
        command
    }

    /// Runs a subcommand on the edge, and gives its exit status and output whatever they are.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn attempt(
        &self,
        subcommand: &str,
        arguments: &[impl AsRef<OsStr> + Sync],
    ) -> Result<Output> {
        let mut command = self.command(subcommand);
        command.args(arguments);
        output(&self.lab.edge, &mut command)
    }

    /// Runs a subcommand on the edge, and gives what it printed.
    ///
    /// # Errors
    /// What it wrote to its error output, if it failed.
    pub fn run(&self, subcommand: &str, arguments: &[impl AsRef<OsStr> + Sync]) -> Result<String> {
        let output = self.attempt(subcommand, arguments)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "spectrum {subcommand}: {complaint}"
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `spectrum status` says, whether a daemon runs or only its filter.
    ///
    /// # Errors
    /// It failed, or says something that [`status`] does not know.
    pub fn status(&self) -> Result<Status> {
        Status::parse(&self.run("status", &["-o", "json"])?)
    }

    /// Starts the daemon, and waits until it serves.
    ///
    /// # Errors
    /// It ended, with what it said, or is not ready in time.
    pub fn start(&self) -> Result<Daemon<'lab>> {
        self.start_with(|_| {})
    }

    /// The same, with what `prepare` does to its command line and environment.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub fn start_with(&self, prepare: impl FnOnce(&mut Command)) -> Result<Daemon<'lab>> {
        mount_bpf()?;
        let mut command = self.command("run");
        command.env(
            "RUST_LOG",
            env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
        );
        prepare(&mut command);
        let mut process = Process::start(self.lab, &self.lab.edge, "spectrum", &mut command)?;
        let pid = process.pid().as_raw();
        process.wait_ready(PATIENCE, || {
            let running = self.status()?.daemon;
            ensure!(
                running == Some(pid),
                "status speaks of {running:?}, not of {pid}"
            );
            Ok(())
        })?;
        Ok(Daemon {
            site: self.clone(),
            process,
        })
    }
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon<'lab> {
    site: Site<'lab>,
    process: Process,
}

impl Daemon<'_> {
    pub fn site(&self) -> &Site<'_> {
        &self.site
    }

    /// What it has logged so far, daemons before it in the same lab included.
    pub fn log(&self) -> String {
        self.site.log()
    }

    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// # Errors
    /// It has ended; with its log.
    pub fn ensure_running(&mut self) -> Result<()> {
        self.process.ensure_running()
    }

    /// Waits until its log holds `text`.
    ///
    /// # Errors
    /// It does not, in time.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        wait::until("the daemon's log", PATIENCE, || {
            let log = self.log();
            if log.contains(text) {
                return Ok(());
            }
            bail!("no {text:?} in:\n{log}")
        })
    }

    /// Asks it to end, as systemd does, and waits until it has.
    ///
    /// # Errors
    /// It goes on.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Kills it, as the kernel does when memory is short.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }

    /// # Errors
    /// It goes on.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.process.wait(PATIENCE);
        status.with_context(|| self.log())
    }
}

/// Runs a program on a host to its end.
///
/// # Errors
/// It cannot be started.
pub fn output(host: &Host, command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = host.namespace.run(|| command.output())?;
    output.with_context(|| format!("running {program}"))
}

/// Mounts the BPF file system where systemd would have.
fn mount_bpf() -> Result<()> {
    let directory = Path::new(leftovers::BPF_DIR);
    if statfs(directory)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(
        Some("bpf"),
        directory,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mounting {}", directory.display()))
}
