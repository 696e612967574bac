//! Client, edge and origin: three network namespaces in a row, joined by two veth pairs.
//!
//! ```text
//! client c0 10.91.1.2 ── 10.91.1.1 e0 edge e1 10.91.2.1 ── 10.91.2.2 o0 origin
//! ```
//!
//! What comes from clients comes as from a wire: in packets of the MTU, which the edge aggregates
//! (GRO) as they arrive. Between veth devices that is not so by itself, but an XDP program makes it
//! so; it is set for all subjects, so that the one with an XDP program is not the only one to pay.
//!
//! The namespaces have no names: the kernel removes them with the last process that uses them.

use std::{
    fs::{self, File},
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    panic::resume_unwind,
    process::{self, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Where clients reach a proxy.
pub const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 91, 1, 1));
pub const ORIGIN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 91, 2, 2));
/// The edge's interface towards clients.
pub const EDGE_INTERFACE: &str = "e0";

pub struct Topology {
    pub client: Namespace,
    pub edge: Namespace,
    pub origin: Namespace,
}

impl Topology {
    /// # Errors
    /// Without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, or without the tools `ip` and `ethtool`.
    pub fn new() -> Result<Self> {
        let topology = Self {
            client: Namespace::new()?,
            edge: Namespace::new()?,
            origin: Namespace::new()?,
        };
        let Self {
            client,
            edge,
            origin,
        } = &topology;
        for namespace in [client, edge, origin] {
            namespace.tune()?;
        }
        client.ip(&veth("c0", "e0", edge))?;
        edge.ip(&veth("e1", "o0", origin))?;
        client.ip("addr add 10.91.1.2/24 dev c0\nlink set c0 up\n")?;
        edge.ip("addr add 10.91.1.1/24 dev e0\nlink set e0 up\n")?;
        edge.ip("addr add 10.91.2.1/24 dev e1\nlink set e1 up\n")?;
        origin.ip("addr add 10.91.2.2/24 dev o0\nlink set o0 up\n")?;
        client.ip("route add default via 10.91.1.1\n")?;
        origin.ip("route add default via 10.91.2.1\n")?;
        client.offload("c0", &["tso", "off", "gso", "off"])?;
        edge.offload(EDGE_INTERFACE, &["gro", "on"])?;
        Ok(topology)
    }

    /// From now on datagrams have their checksums when they leave a host, and each device takes what XDP
    /// sends, as with network cards.
    ///
    /// # Errors
    /// Without the tool `ethtool`.
    pub fn behave_as_wires(&self) -> Result<()> {
        for (host, device) in [(&self.client, "c0"), (&self.origin, "o0")] {
            host.offload(device, &["tx", "off", "gro", "on"])?;
        }
        self.edge.offload("e1", &["gro", "on"])
    }
}

impl Drop for Topology {
    /// Ends what still runs in the namespaces, such as the workers of a server that was killed.
    fn drop(&mut self) {
        for namespace in [&self.client, &self.edge, &self.origin] {
            for process in namespace.processes().unwrap_or_default() {
                // It may have ended meanwhile.
                let _ = kill(process, Signal::SIGKILL);
            }
        }
    }
}

fn veth(near: &str, far: &str, other: &Namespace) -> String {
    let queues = "numtxqueues 2 numrxqueues 2";
    let path = other.path();
    format!("link add {near} {queues} type veth peer name {far} netns {path} {queues}\n")
}

/// A network namespace; gone when this value and the processes in it are.
pub struct Namespace {
    handle: File,
}

impl Namespace {
    fn new() -> Result<Self> {
        let unshared = on_own_thread(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let handle = unshared.context("cannot make a network namespace (are you root?)")?;
        Ok(Self { handle })
    }

    /// A path by which other processes can enter, as long as this one lives.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd())
    }

    /// A program to run in this namespace. It gets SIGTERM when this process ends, however it
    /// does.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path()))
            .args(["setpriv", "--pdeathsig", "TERM", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Does something in this namespace, on a thread of its own.
    ///
    /// # Errors
    /// Those of `setns`.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// Every process in this namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let own = self.handle.metadata()?.ino();
        let lives_here = |pid: &i32| {
            // A process that has ended meanwhile lives nowhere.
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net.ino() == own)
        };
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(lives_here);
        Ok(pids.map(Pid::from_raw).collect())
    }

    /// Settings with which tens of thousands of connections a minute are possible, and which every
    /// namespace may have: Reno does not pace, as BBR would, and nothing is lost here.
    fn tune(&self) -> Result<()> {
        self.ip("link set lo up\n")?;
        self.enter(|| {
            for (key, value) in [
                ("ip_forward", "1"),
                ("ip_local_port_range", "1024 65535"),
                ("tcp_congestion_control", "reno"),
                ("tcp_max_syn_backlog", "16384"),
                ("tcp_tw_reuse", "1"),
            ] {
                let path = format!("/proc/sys/net/ipv4/{key}");
                fs::write(&path, value).with_context(|| format!("cannot set {path}"))?;
            }
            Ok(())
        })?
    }

    fn ip(&self, commands: &str) -> Result<()> {
        let mut ip = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run nsenter")?;
        if let Some(mut stdin) = ip.stdin.take() {
            stdin.write_all(commands.as_bytes())?;
        }
        ensure!(ip.wait()?.success(), "ip failed on: {commands}");
        Ok(())
    }

    /// Runs a command of nft(8).
    ///
    /// # Errors
    /// When it fails.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let status = self.command("nft").arg(rules).status()?;
        ensure!(status.success(), "nft failed on: {rules}");
        Ok(())
    }

    fn offload(&self, device: &str, features: &[&str]) -> Result<()> {
        let mut ethtool = self.command("ethtool");
        // What else changes with them is not for whoever reads the result.
        ethtool.stdout(Stdio::null());
        let status = ethtool.arg("-K").arg(device).args(features).status()?;
        ensure!(
            status.success(),
            "ethtool failed (package ethtool) on {device}"
        );
        Ok(())
    }
}

/// A thread has a network namespace of its own; the rest of the process keeps the one it has.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
