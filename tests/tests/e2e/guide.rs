//! The five minutes of the README, as a reader follows them: its own documents and commands, with
//! the names of the lab in the place of the reader's.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use spectrum_tests::{
    Lab,
    attack::Flood,
    client::{self, ssh_banner},
    daemon,
    origin::{self, port},
    packet::{self, Flags},
    process::Process,
    topology::{
        ETH0, FRONT, Host,
        address::{ATTACKER, EDGE, EDGE_BACK, ORIGIN},
    },
    wait,
};

use crate::{
    capture::{Recorded, read},
    harness::{Case, PATIENCE, ensure_silent},
};

pub(crate) const CASES: &[Case] = &[Case {
    name: "guide::five_minutes_lead_to_a_shielded_ssh_server",
    needs: &["sshd", "ssh", "ssh-keygen", "nft"],
    run: five_minutes_lead_to_a_shielded_ssh_server,
}];

/// The heading of the guide.
const HEADING: &str = "## Five minutes to a shielded SSH server";
/// An address under which strangers reach the origin, as long as it answers them.
const ORIGIN_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// Whom the guide suspects, and how the edge finds him.
const SUSPECT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SUSPECTS: &str = "198.51.100.0/24";
/// Nobody serves anything there.
const CLOSED_PORT: u16 = 4444;

fn five_minutes_lead_to_a_shielded_ssh_server() -> Result<()> {
    let lab = Lab::new()?;
    let ssh = origin::ssh(&lab)?;
    connect_strangers(&lab)?;
    let guide = Guide::open(&ssh)?;
    let edge = EdgeHost::new(&lab)?;
    let through_the_edge = (EDGE, port::SSH).into();
    let direct = (ORIGIN_PUBLIC, port::SSH).into();

    let [build, install] = guide.step(1)?;
    // What it builds is under test already.
    ensure!(build == "cargo xtask build", "{build}");
    edge.run(&install)?;

    for write in guide.step::<3>(2)? {
        edge.run(&write)?;
    }

    let [check, run, status, log_in] = guide.step(3)?;
    let checked = edge.run(&check)?;
    ensure!(checked.contains("ssh.example.com"), "{checked}");
    let mut daemon = edge.start(run.strip_suffix(" &").context("not in the background")?)?;
    daemon.wait_ready(PATIENCE, || {
        let status = edge.run(&status)?;
        ensure!(status.contains("ssh.example.com"), "{status}");
        Ok(())
    })?;
    wait::until("ssh through the edge", PATIENCE, || {
        shell(&lab.client, &log_in).map(drop)
    })?;
    let failing = |what: &str| format!("{what}; the daemon's log:\n{}", daemon.output());

    greeted(&lab.attacker, direct).context("before the lock-down")?;
    for rule in guide.step::<5>(4)? {
        shell(&lab.origin, &rule)?;
    }
    ensure_silent(&lab.attacker, None, direct).context("after the lock-down")?;
    shell(&lab.client, &log_in).with_context(|| failing("after the lock-down"))?;

    let [status, why, mitigations, capture, block, unblock] = guide.step(5)?;
    let suspect = || {
        client::connect(
            &lab.attacker,
            Some(SUSPECT.into()),
            through_the_edge,
            PATIENCE,
        )
    };
    ssh_banner(&suspect()?)?;
    edge.run(&status)?;
    let judged = edge.run(&why)?;
    ensure!(judged.contains("passes"), "{judged}");
    edge.run(&mitigations)?;
    ensure_evidence(&edge, &capture)?;
    edge.run(&block)?;
    let judged = edge.run(&why)?;
    ensure!(judged.contains("DROPPED: blocked"), "{judged}");
    ensure_silent(&lab.attacker, Some(SUSPECT.into()), through_the_edge)?;
    shell(&lab.client, &log_in).with_context(|| failing("beside the block"))?;
    edge.run(&unblock)?;
    ssh_banner(&suspect()?).with_context(|| failing("after the unblock"))?;
    Ok(())
}

/// Whoever is attacked has the packets on file, and why they were dropped.
fn ensure_evidence(edge: &EdgeHost<'_>, capture: &str) -> Result<()> {
    let lab = edge.lab;
    let scan = Flood {
        frames: vec![packet::tcp(
            lab.attack_path(),
            (ATTACKER, 40_000).into(),
            (EDGE, CLOSED_PORT).into(),
            Flags::SYN,
        )?],
        per_second: 100,
        count: u64::MAX,
    };
    let scan = scan.start(&lab.attacker)?;
    edge.run(capture)?;
    scan.stop()?;
    let packets = read(&fs::read(edge.home.join("now.pcapng"))?, true)?.packets;
    let are_dropped =
        |packet: &Recorded| packet.comment.starts_with("dropped: closed_port, no app");
    ensure!(
        !packets.is_empty() && packets.iter().all(are_dropped),
        "{packets:?}"
    );
    Ok(())
}

/// Gives the origin a public address, and the edge a way to the suspects.
fn connect_strangers(lab: &Lab) -> Result<()> {
    lab.internet.namespace.ip(&format!(
        "link add origin type veth peer name public netns {}
         link set origin master bridge up\n",
        lab.origin.namespace.name()
    ))?;
    lab.origin.namespace.ip(&format!(
        "address add {ORIGIN_PUBLIC}/24 dev public
         link set public up\n"
    ))?;
    lab.attacker.add_address(ETH0, SUSPECT.into())?;
    let route = format!("route add {SUSPECTS} dev {FRONT}\n");
    lab.edge.namespace.ip(&route)
}

fn greeted(host: &Host, server: SocketAddr) -> Result<()> {
    ssh_banner(&client::connect(host, None, server, PATIENCE)?).map(drop)
}

/// The commands of the README's guide, by step.
struct Guide {
    steps: Vec<Vec<String>>,
}

impl Guide {
    fn open(ssh: &origin::Ssh) -> Result<Self> {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let readme = fs::read_to_string(readme)?;
        let (_, after) = readme
            .split_once(HEADING)
            .context("no guide in README.md")?;
        let guide = after.split("\n## ").next().unwrap_or_default();
        let names = Self::names(ssh)?;
        let named = names.iter().fold(guide.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        });
        Ok(Self {
            steps: commands(&named),
        })
    }

    /// What the reader has, and what stands for it here.
    fn names(ssh: &origin::Ssh) -> Result<[(&'static str, String); 6]> {
        let binary = daemon::binary()?.display().to_string();
        // As if it were the reader's own: who he is, and that he knows the server.
        let options = format!(
            "-F none -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            ssh.identity.display()
        );
        Ok([
            ("target/release/spectrum", binary),
            ("eth0", FRONT.to_owned()),
            ("10.0.0.10", ORIGIN.to_string()),
            ("192.0.2.1", EDGE_BACK.to_string()),
            ("ssh -p", format!("ssh {options} -p")),
            ("you@edge", format!("root@{EDGE} true")),
        ])
    }

    /// The commands of a step, which a reader numbers from 1.
    fn step<const N: usize>(&self, number: usize) -> Result<[String; N]> {
        let step = self.steps.get(number - 1).cloned().unwrap_or_default();
        let commands: Result<[String; N], _> = step.try_into();
        commands.map_err(|other| {
            anyhow!("step {number} of the guide is no longer of {N} commands: {other:#?}")
        })
    }
}

/// The commands of each block of the console: what follows a prompt, up to the next one.
fn commands(guide: &str) -> Vec<Vec<String>> {
    let blocks = guide.split("```console\n").skip(1);
    let commands = |block: &str| {
        let block = block.split("```").next().unwrap_or_default();
        let mut commands: Vec<String> = Vec::new();
        for line in block.lines() {
            // Blocks are indented as the steps of a list are.
            let line = line.strip_prefix("   ").unwrap_or(line);
            match (line.strip_prefix("# "), commands.last_mut()) {
                (Some(command), _) => {
                    let command = command.split("  #").next().unwrap_or_default();
                    commands.push(command.trim_end().to_owned());
                }
                // The rest of a document.
                (None, Some(command)) => *command += &format!("\n{line}"),
                (None, None) => {}
            }
        }
        commands
    };
    blocks.map(commands).collect()
}

/// The edge as a host of its own: with directories that belong to it alone.
struct EdgeHost<'lab> {
    lab: &'lab Lab,
    mounts: Process,
    /// Where its operator works.
    home: PathBuf,
}

impl<'lab> EdgeHost<'lab> {
    fn new(lab: &'lab Lab) -> Result<Self> {
        let [root, home] = ["edge", "home"].map(|name| lab.dir().join(name));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&home)?;
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "bash", "-c"]);
        holder.arg(format!(
            "set -e
             mount -t tmpfs edge {root}
             cp -a /etc {root}/etc
             mkdir -p {root}/bin {root}/log
             mount --bind {root}/etc /etc
             mount --bind {root}/bin /usr/local/bin
             mount --bind {root}/log /var/log
             mount -t tmpfs run /run
             mount -t bpf bpf /sys/fs/bpf
             touch /run/ready
             exec sleep infinity",
            root = root.display()
        ));
        let mut mounts = Process::start(lab, &lab.edge, "edge", &mut holder)?;
        let ready = format!("/proc/{}/root/run/ready", mounts.pid());
        mounts.wait_ready(PATIENCE, || Ok(fs::metadata(&ready).map(drop)?))?;
        Ok(Self { lab, mounts, home })
    }

    fn command(&self, command: &str) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--target", &self.mounts.pid().to_string()]);
        inside.arg(format!("--wd={}", self.home.display()));
        inside.args(["bash", "-c", command]);
        inside
    }

    fn run(&self, command: &str) -> Result<String> {
        run(&self.lab.edge, &mut self.command(command), command)
    }

    fn start(&self, command: &str) -> Result<Process> {
        let command = format!("exec {command}");
        Process::start(
            self.lab,
            &self.lab.edge,
            "spectrum",
            &mut self.command(&command),
        )
    }
}

/// Runs a command as a shell on `host` would.
fn shell(host: &Host, command: &str) -> Result<String> {
    run(host, Command::new("bash").args(["-c", command]), command)
}

fn run(host: &Host, command: &mut Command, name: &str) -> Result<String> {
    let output = daemon::output(host, command)?;
    if !output.status.success() {
        bail!("`{name}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
