//! One subject on the edge, from its start to its end.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{self, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{
    Subject,
    process::{Process, wait_until},
    template::render,
    topology::{EDGE, EDGE_INTERFACE, ORIGIN, Topology},
    usage,
};
use crate::load::{Check, Idle, IdleReport, Job, Load, Serve, Server, Span};

/// Ports of the origin's servers, and of their apps on the edge.
pub const ECHO: u16 = 7000;
pub const SINK: u16 = 7001;
pub const SOURCE: u16 = 7002;
pub const UDP_ECHO: u16 = 9000;

/// What all subjects of a run have in common.
pub struct Stage {
    pub settings: Settings,
    capacity: Capacity,
    directory: TempDir,
    // Processes end before the namespaces they live in.
    _origin: Process,
    topology: Topology,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Of each load.
    pub span: Span,
    /// As many idle connections as the limit of open files permits, at most.
    pub idle_connections: usize,
    /// The program `spectrum`.
    pub spectrum: PathBuf,
    /// The program `spectrum-load`.
    pub load: PathBuf,
}

impl Stage {
    /// Sets up namespaces and origin.
    ///
    /// # Errors
    /// Without the privileges or the tools for it.
    pub fn new(settings: Settings, open_files: u64) -> Result<Self> {
        let capacity = Capacity::new(open_files, settings.idle_connections)?;
        let directory = tempfile::Builder::new()
            .prefix("spectrum-bench-")
            .tempdir()?;
        let topology = Topology::new()?;
        let servers = Job::from(Serve {
            servers: vec![
                Server::Echo((ORIGIN, ECHO).into()),
                Server::Sink((ORIGIN, SINK).into()),
                Server::Source((ORIGIN, SOURCE).into()),
                Server::UdpEcho((ORIGIN, UDP_ECHO).into()),
            ],
        });
        let mut command = topology.origin.command(&settings.load);
        command.arg(serde_json::to_string(&servers)?);
        let origin = Process::start("origin", &mut command, directory.path())?;
        Ok(Self {
            settings,
            capacity,
            directory,
            _origin: origin,
            topology,
        })
    }

    /// See [`Topology::behave_as_wires`].
    ///
    /// # Errors
    /// Without the tool `ethtool`.
    pub fn behave_as_wires(&self) -> Result<()> {
        self.topology.behave_as_wires()
    }

    pub fn idle_connections(&self) -> usize {
        self.capacity.idle
    }

    /// The command that runs a subject in the foreground, its configuration written.
    fn command(&self, subject: Subject) -> Result<Option<Command>> {
        let mut command = match subject {
            Subject::Direct | Subject::Dnat => return Ok(None),
            Subject::Spectrum => self.spectrum("data_path = \"proxy\"")?,
            Subject::SpectrumKernel => self.spectrum("data_path = \"kernel\"")?,
            Subject::Haproxy => self.haproxy("", "")?,
            Subject::HaproxyTuned => self.haproxy(&self.haproxy_tuning(), HAPROXY_SPLICES)?,
            Subject::Nginx => self.nginx("")?,
            Subject::NginxTuned => self.nginx(NGINX_TUNING)?,
        };
        command.current_dir(self.directory.path());
        Ok(Some(command))
    }

    /// `udp`: a key of the document for UDP.
    fn spectrum(&self, udp: &str) -> Result<Command> {
        let mut command = self.topology.edge.command(&self.settings.spectrum);
        command.arg("run").arg("--config");
        command.arg(self.write_spectrum(udp)?);
        Ok(command)
    }

    fn haproxy(&self, global: &str, defaults: &str) -> Result<Command> {
        let own = [
            ("global", global.to_owned()),
            ("defaults", defaults.to_owned()),
        ];
        let template = include_str!("templates/haproxy.cfg");
        let configuration = self.write("haproxy.cfg", template, &own)?;
        let mut command = self.topology.edge.command("haproxy");
        command.arg("-f").arg(configuration);
        Ok(command)
    }

    fn haproxy_tuning(&self) -> String {
        let pipes = self.capacity.pipes;
        format!(
            "maxpipes {pipes}\n  tune.pipesize 1048576\n  tune.bufsize 65536\n  tune.maxaccept 64"
        )
    }

    fn nginx(&self, stream: &str) -> Result<Command> {
        let own = [("stream", stream.to_owned())];
        let template = include_str!("templates/nginx.conf");
        let configuration = self.write("nginx.conf", template, &own)?;
        let mut command = self.topology.edge.command("nginx");
        command.args(["-e", "stderr", "-c"]).arg(configuration);
        Ok(command)
    }

    fn write_spectrum(&self, udp: &str) -> Result<PathBuf> {
        let own = [
            ("interface", EDGE_INTERFACE.to_owned()),
            ("pins", pin_directory().display().to_string()),
        ];
        fs::create_dir_all(self.directory.path().join("apps.d"))?;
        for (transport, port, keys) in [
            ("tcp", ECHO, ""),
            ("tcp", SINK, ""),
            ("tcp", SOURCE, ""),
            ("udp", UDP_ECHO, udp),
        ] {
            let own = [
                ("transport", transport.to_owned()),
                ("port", port.to_string()),
                ("keys", keys.to_owned()),
            ];
            let template = include_str!("templates/spectrum-app.toml");
            self.write(&format!("apps.d/{transport}-{port}.toml"), template, &own)?;
        }
        let template = include_str!("templates/spectrum.toml");
        self.write("spectrum.toml", template, &own)
    }

    fn write(&self, name: &str, template: &str, own: &[(&str, String)]) -> Result<PathBuf> {
        let common = [
            ("connections", self.capacity.connections.to_string()),
            ("directory", self.directory.path().display().to_string()),
            ("edge", EDGE.to_string()),
            ("files", self.capacity.files.to_string()),
            ("origin", ORIGIN.to_string()),
        ];
        let path = self.directory.path().join(name);
        fs::write(&path, render(template, &[own, &common].concat())?)?;
        Ok(path)
    }
}

const HAPROXY_SPLICES: &str = "option splice-request\n  option splice-response";
const NGINX_TUNING: &str = "proxy_half_close on;\n  proxy_buffer_size 64k;";

/// How much each proxy may hold open: a proxied connection needs two files, and two more for each
/// pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capacity {
    files: u64,
    connections: usize,
    pipes: usize,
    idle: usize,
}

impl Capacity {
    fn new(files: u64, idle: usize) -> Result<Self> {
        let pipes = 1500;
        let others = 200;
        let for_connections = usize::try_from(files)?.saturating_sub(2 * pipes + others);
        let connections = (for_connections / 2).min(12_000);
        ensure!(
            connections >= 2000,
            "a limit of {files} open files is too low to measure thousands of connections"
        );
        Ok(Self {
            files: files.min(30_000),
            connections,
            pipes,
            // A round number below the limit.
            idle: idle.min((connections - 1) / 1000 * 1000),
        })
    }
}

/// A subject that serves.
pub struct Site<'stage> {
    pub subject: Subject,
    pub stage: &'stage Stage,
    _proxy: Option<Process>,
    _translation: Option<Translation<'stage>>,
    _pins: Pins,
}

impl<'stage> Site<'stage> {
    /// Starts a subject, waits until it serves, and makes sure that it does so byte for byte.
    ///
    /// # Errors
    /// When it does not, or the run is interrupted.
    pub fn open(stage: &'stage Stage, subject: Subject) -> Result<Self> {
        let pins = Pins;
        let translation = (subject == Subject::Dnat).then(|| Translation::begin(&stage.topology));
        let translation = translation.transpose()?;
        let mut proxy = match stage.command(subject)? {
            None => None,
            Some(mut command) => {
                let directory = stage.directory.path();
                Some(Process::start(subject.name(), &mut command, directory)?)
            }
        };
        let what = format!("{} to serve", subject.name());
        let echo = address(subject, ECHO);
        wait_until(&what, Duration::from_secs(20), || {
            if let Some(proxy) = &mut proxy {
                proxy.ensure_running()?;
            }
            stage.topology.client.enter(|| answers(echo))
        })?;
        let site = Self {
            subject,
            stage,
            _proxy: proxy,
            _translation: translation,
            _pins: pins,
        };
        site.run(Check {
            to: echo,
            bytes: 8 << 20,
        })?;
        Ok(site)
    }

    /// Where clients find a port of the origin.
    pub fn address(&self, port: u16) -> SocketAddr {
        address(self.subject, port)
    }

    pub fn is_proxied(&self) -> bool {
        !matches!(self.subject, Subject::Direct | Subject::Dnat)
    }

    /// Runs a load at the client.
    ///
    /// # Errors
    /// When the load fails, or the run is interrupted.
    pub fn run<L: Load>(&self, load: L) -> Result<L::Report> {
        let printed = self.start(load)?.finish(LOAD_PATIENCE)?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// Does something while idle connections are open.
    ///
    /// # Errors
    /// When one of them fails, or what is done meanwhile.
    pub fn while_idle<T>(&self, load: Idle, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut clients = self.start(load)?;
        clients.wait_for_line(Idle::READY, LOAD_PATIENCE)?;
        let result = meanwhile()?;
        let printed = clients.finish(LOAD_PATIENCE)?;
        let report = printed.lines().last().context("no report")?;
        let _: IdleReport = serde_json::from_str(report)?;
        Ok(result)
    }

    fn start(&self, load: impl Into<Job>) -> Result<Process> {
        let job = serde_json::to_string(&load.into())?;
        let mut command = self
            .stage
            .topology
            .client
            .command(&self.stage.settings.load);
        command.arg(job).stdin(Stdio::piped());
        Process::start("load", &mut command, self.stage.directory.path())
    }

    /// CPU time that the proxy has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.sum(usage::cpu_time)
    }

    /// Memory of the proxy, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<u64> {
        self.sum(usage::memory)
    }

    /// Files that the proxy has open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn open_files(&self) -> Result<u64> {
        self.sum(usage::open_files)
    }

    /// Over the processes on the edge: they are the proxy's, and nobody else's.
    fn sum<T: std::iter::Sum>(&self, usage: fn(Pid) -> Result<T>) -> Result<T> {
        self.stage
            .topology
            .edge
            .processes()?
            .into_iter()
            .map(usage)
            .sum()
    }
}

/// More than any load takes that gets on at all.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);

fn address(subject: Subject, port: u16) -> SocketAddr {
    if subject == Subject::Direct {
        return (ORIGIN, port).into();
    }
    (EDGE, port).into()
}

/// Whether an echo works from end to end; the servers may still be on their way up.
fn answers(echo: SocketAddr) -> bool {
    let attempt = || -> std::io::Result<()> {
        let patience = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&echo, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])
    };
    attempt().is_ok()
}

/// The edge gives packets for it the origin's address, and answers its own.
struct Translation<'stage>(&'stage Topology);

impl<'stage> Translation<'stage> {
    fn begin(topology: &'stage Topology) -> Result<Self> {
        let rules = format!(
            "table ip bench {{
               chain before {{
                 type nat hook prerouting priority dstnat;
                 iifname {EDGE_INTERFACE} ip daddr {EDGE} dnat to {ORIGIN}
               }}
               chain after {{
                 type nat hook postrouting priority srcnat;
                 ip daddr {ORIGIN} masquerade
               }}
             }}"
        );
        topology.edge.nft(&rules)?;
        Ok(Self(topology))
    }
}

impl Drop for Translation<'_> {
    fn drop(&mut self) {
        // Gone with the namespace at the latest.
        let _ = self.0.edge.nft("delete table ip bench");
    }
}

/// Where Spectrum pins what it loads; what it leaves there goes with this value.
struct Pins;

fn pin_directory() -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/spectrum-bench-{}", process::id()))
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Only Spectrum makes the directory, and it may have put it away by itself.
        let _ = fs::remove_dir_all(pin_directory());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn connections_and_pipes_of_a_proxy_fit_the_limit_of_files() {
        for files in [8192, 20_000, 65_536, 1 << 20] {
            let capacity = Capacity::new(files, 10_000).unwrap();
            let needed = 2 * (capacity.connections + capacity.pipes);
            assert!(needed as u64 <= files, "{files}: {capacity:?}");
            assert!(capacity.idle < capacity.connections, "{capacity:?}");
        }
        assert_eq!(Capacity::new(1 << 20, 10_000).unwrap().idle, 10_000);
        assert_eq!(Capacity::new(20_000, 10_000).unwrap().idle, 8000);
        assert!(Capacity::new(1024, 10_000).is_err());
    }
}
