//! Packets on file: each with its verdict, for those who asked, and without harm to anybody else.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcap_parser::{Block, EnhancedPacketBlock, OptionCode, parse_block_le};
use serde_json::Value;
use spectrum_tests::{
    Lab,
    attack::Flood,
    client::Probe,
    daemon::{AppDocument, HostDocument, Site},
    origin::{self, port},
    packet::{self, Flags},
    process::Process,
    topology::{
        FRONT,
        address::{ATTACKER, CLIENT, EDGE},
    },
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, get, shielded, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "capture::each_packet_has_its_verdict_and_replays_to_the_same",
        needs: &[],
        run: each_packet_has_its_verdict_and_replays_to_the_same,
    },
    Case {
        name: "capture::only_what_is_asked_for_comes_and_tcpdump_reads_it_as_it_does",
        needs: &["tcpdump"],
        run: only_what_is_asked_for_comes_and_tcpdump_reads_it_as_it_does,
    },
    Case {
        name: "capture::a_slow_reader_loses_packets_and_holds_up_nobody",
        needs: &[],
        run: a_slow_reader_loses_packets_and_holds_up_nobody,
    },
    Case {
        name: "capture::whoever_insists_ends_it_though_nobody_reads",
        needs: &[],
        run: whoever_insists_ends_it_though_nobody_reads,
    },
    Case {
        name: "capture::a_daemon_that_reloads_or_ends_says_so_and_the_file_is_whole",
        needs: &[],
        run: a_daemon_that_reloads_or_ends_says_so_and_the_file_is_whole,
    },
];

const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);

/// A host that has had enough of the attacker.
fn block_attacker(lab: &Lab, play: impl FnOnce(Scene<'_>) -> Result<()>) -> Result<()> {
    let host = HostDocument {
        protection: &format!("block = [\"{ATTACKER}\"]"),
        ..HostDocument::default()
    };
    shielded_in(lab, host, &[HTTP], play)
}

fn each_packet_has_its_verdict_and_replays_to_the_same() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    block_attacker(&lab, |scene| {
        let file = lab.dir().join("all.pcapng");
        let begun = SystemTime::now();
        let mut capture = start(&scene, "capture", &file, &["--app", "http.lab"])?;
        for _ in 0..5 {
            get(&lab.client, None, (EDGE, port::HTTP).into())?;
        }
        blocked_syns(&scene, 2000)?.run(&lab.attacker)?;
        // The last packets are told of when nothing follows them.
        let counted = scene.filter("http.lab")?;
        wait::until("the packets to be on file", PATIENCE, || {
            let written = read(&fs::read(&file)?, false)?;
            let told: u64 = written.packets.iter().map(|packet| packet.weight).sum();
            let met = counted.passed.packets + counted.dropped("blocked");
            ensure!(told == met, "{told} of {met} packets are told of");
            Ok(())
        })?;
        capture.signal(Signal::SIGINT)?;
        let status = capture.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {}", capture.output());

        let written = read(&fs::read(&file)?, true)?;
        ensure!(written.interfaces == [FRONT], "{:?}", written.interfaces);
        let summary = format!(
            "{} packets written, which stand for ",
            written.packets.len()
        );
        let said = capture.output();
        ensure!(
            said.contains(&summary) && said.contains("; 0 lost"),
            "{said}"
        );
        for packet in &written.packets {
            let elapsed = packet.time.duration_since(begun);
            ensure!(
                elapsed.is_ok_and(|elapsed| elapsed < Duration::from_mins(2)),
                "{packet:?}"
            );
        }
        ensure_replay_agrees(&scene.site, &file, &written.packets)
    })
}

/// Whoever tunes a rule replays what he has captured.
fn ensure_replay_agrees(site: &Site<'_>, file: &Path, packets: &[Recorded]) -> Result<()> {
    let file = file.display().to_string();
    let report = site.run("replay", &[file.as_str(), "-o", "json"])?;
    let report: Value = serde_json::from_str(&report)?;
    let verdicts = report["verdicts"].as_array().context("no verdicts")?;
    ensure!(verdicts.len() == packets.len(), "{report}");
    for (verdict, packet) in verdicts.iter().zip(packets) {
        let source = verdict["source"].as_str().context("no source")?;
        let (said, end) = if source.starts_with(&format!("{ATTACKER}:")) {
            ("dropped: blocked, app http.lab, stands for ", "drop")
        } else {
            ensure!(source.starts_with(&format!("{CLIENT}:")), "{verdict}");
            ("passed, app http.lab, stands for ", "pass")
        };
        ensure!(packet.comment.starts_with(said), "{packet:?} of {source}");
        ensure!(verdict["verdict"] == end, "{verdict} of {packet:?}");
        ensure!(
            verdict["length"] == packet.length,
            "{verdict} of {packet:?}"
        );
    }
    let dropped = packets
        .iter()
        .filter(|packet| packet.comment.starts_with("dropped"));
    let dropped = dropped.count();
    ensure!(
        (1..packets.len()).contains(&dropped),
        "{dropped} of {}",
        packets.len()
    );
    Ok(())
}

fn only_what_is_asked_for_comes_and_tcpdump_reads_it_as_it_does() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    block_attacker(&lab, |scene| {
        let file = |name| lab.dir().join(name);
        let [five, client, brief] = ["five.pcapng", "client.pcapng", "brief.pcapng"].map(file);
        let wanted = ["--reason", "blocked", "--count", "5"];
        let mut blocked = start(&scene, "blocked", &five, &wanted)?;
        let source = CLIENT.to_string();
        let wanted = ["--passed", "--source", &source, "--count", "2"];
        let mut passed = start(&scene, "passed", &client, &wanted)?;
        let mut timed = start(&scene, "brief", &brief, &["--for", "1s"])?;
        let mut piped = piped(&scene, &["--dropped", "--count", "3"])?;
        let mut tcpdump = Command::new("tcpdump");
        let out = piped.stdout.take().context("no output")?;
        let packets = tcpdump
            .args(["-n", "-r", "-"])
            .stdin(out)
            .stdout(Stdio::piped());
        let tcpdump = packets.stderr(Stdio::null()).spawn()?;

        let visitor = visitor(&lab)?;
        let flood = blocked_syns(&scene, u64::MAX)?.start(&lab.attacker)?;
        let Output { stdout, .. } = tcpdump.wait_with_output()?;
        let lines = String::from_utf8(stdout)?;
        let syns = lines.matches(&format!("IP {ATTACKER}.")).count();
        ensure!(syns == 3, "{lines}");
        ensure!(piped.wait()?.success());
        for (capture, file, comment, expected) in [
            (&mut blocked, &five, "dropped: blocked, app http.lab", 5..=5),
            (&mut passed, &client, "passed, app http.lab", 2..=2),
            (&mut timed, &brief, "", 0..=usize::MAX),
        ] {
            let status = capture.wait(PATIENCE)?;
            ensure!(status.success(), "{status}: {}", capture.output());
            let packets = read(&fs::read(file)?, true)?.packets;
            ensure!(expected.contains(&packets.len()), "{packets:?}");
            let all = packets
                .iter()
                .all(|packet| packet.comment.starts_with(comment));
            ensure!(all, "{packets:?}");
        }
        flood.stop()?;
        drop(visitor);

        for (wish, complaint) in [
            (
                ["--reason", "nonsense"],
                "expected one of malformed, tcp_flags,",
            ),
            (["--app", "other.lab"], "the apps are http.lab"),
        ] {
            let Output { status, stderr, .. } = scene
                .site
                .attempt("capture", &[&wish[..], &["-w", "-"]].concat())?;
            let said = String::from_utf8_lossy(&stderr);
            ensure!(!status.success() && said.contains(complaint), "{said}");
        }
        Ok(())
    })
}

fn a_slow_reader_loses_packets_and_holds_up_nobody() -> Result<()> {
    /// So many apps fill the queue of a capture in seconds: each has samples of its own.
    const APPS: u16 = 24;
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let names: Vec<String> = (0..APPS)
        .map(|number| format!("udp-{number}.lab"))
        .collect();
    let of_names = names.iter().zip(9000..);
    let mut apps: Vec<_> = of_names
        .map(|(name, port)| AppDocument::udp(name, port))
        .collect();
    let ports: Vec<u16> = apps.iter().map(|app| app.port).collect();
    apps.push(HTTP);
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        let mut reader = piped(&scene, &[])?;
        let pid = Pid::from_raw(reader.id().cast_signed());
        let frames = ports.iter().map(|&port| {
            let to = (EDGE, port).into();
            packet::udp(lab.attack_path(), (ATTACKER, 40_000).into(), to, b"flood")
        });
        let flood = Flood {
            frames: frames.collect::<Result<_>>()?,
            per_second: 15_000,
            count: u64::MAX,
        };
        let flood = flood.start(&lab.attacker)?;
        // Nobody reads: the pipe fills, then the socket, then the queue. Another capture, to which each
        // sample goes as well, tells when there have been more of them than all three hold.
        let file = lab.dir().join("another.pcapng");
        let mut another = start(&scene, "another", &file, &["--count", "20000"])?;
        let visitor = visitor(&lab)?;
        let status = another.wait(Duration::from_mins(1))?;
        ensure!(status.success(), "{status}: {}", another.output());
        let served = visitor.stop();
        ensure!(
            served.attempts > 0 && served.successes == served.attempts,
            "{served:?}"
        );
        ensure!(
            scene.site.status()?.daemon.is_some(),
            "the daemon does not answer"
        );
        flood.stop()?;

        kill(pid, Signal::SIGINT)?;
        let Output {
            status,
            stdout,
            stderr,
        } = reader_output(&mut reader)?;
        let said = String::from_utf8(stderr)?;
        ensure!(status.success(), "{said}");
        let packets = read(&stdout, true)?.packets.len();
        let (_, lost) = said.split_once("; ").context("no summary")?;
        ensure!(
            packets > 0 && !lost.starts_with("0 lost"),
            "{packets} written: {said}"
        );
        Ok(())
    })
}

fn whoever_insists_ends_it_though_nobody_reads() -> Result<()> {
    let lab = Lab::new()?;
    block_attacker(&lab, |scene| {
        let mut reader = piped(&scene, &[])?;
        let pid = Pid::from_raw(reader.id().cast_signed());
        fill(reader.stdout.as_ref().context("no output")?)?;
        let flood = blocked_syns(&scene, u64::MAX)?.start(&lab.attacker)?;
        wait::until("the capture to be stuck", PATIENCE, || {
            ensure!(is_writing(pid)?, "it is not");
            Ok(())
        })?;
        let status = wait::until("the capture to end", PATIENCE, || {
            kill(pid, Signal::SIGINT)?;
            reader.try_wait()?.context("it does not")
        })?;
        flood.stop()?;
        let said = io::read_to_string(reader.stderr.take().context("no error output")?)?;
        ensure!(
            status.code() == Some(1) && said.contains("cut short"),
            "{status}: {said}"
        );
        Ok(())
    })
}

/// Leaves no room in a pipe, of which this is the end to read from.
fn fill(pipe: &ChildStdout) -> Result<()> {
    let mut options = fs::File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut writer = options.open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))?;
    loop {
        match writer.write(&[0]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot fill the pipe"),
        }
    }
}

/// Whether a thread of a process waits for a write to be over.
fn is_writing(pid: Pid) -> Result<bool> {
    let is_write = |call: String| call.split(' ').next() == Some(&libc::SYS_write.to_string());
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        if fs::read_to_string(thread?.path().join("syscall")).is_ok_and(is_write) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn a_daemon_that_reloads_or_ends_says_so_and_the_file_is_whole() -> Result<()> {
    shielded(&[HTTP], |scene| {
        let Scene { lab, site, daemon } = &scene;
        let file = |name: &str| lab.dir().join(name);
        let mut captures = (0..8).map(|number| {
            let name = format!("capture-{number}");
            start(&scene, &name, &file(&name), &[])
        });
        let mut captures: Vec<Process> = captures.by_ref().collect::<Result<_>>()?;
        let one_more = site.attempt("capture", &["-w", "-"])?;
        let said = String::from_utf8_lossy(&one_more.stderr);
        ensure!(
            !one_more.status.success() && said.contains("8 captures run"),
            "{said}"
        );

        site.write_document("http.lab", "protocol = \"tcp/80\"")?;
        daemon.wait_for_log("nothing changed")?;
        captures.iter_mut().try_for_each(Process::ensure_running)?;
        site.write_app(&AppDocument {
            protection: "fragments = \"off\"",
            ..HTTP
        })?;
        for capture in &mut captures {
            ensure_ended(capture, "its configuration has changed")?;
        }
        read(&fs::read(file("capture-0"))?, true)?;

        let mut capture = start(&scene, "last", &file("last"), &[])?;
        daemon.signal(Signal::SIGTERM)?;
        ensure_ended(&mut capture, "the daemon stops")?;
        let mut next = site.start()?;
        let mut capture = start(&scene, "killed", &file("killed"), &[])?;
        next.signal(Signal::SIGKILL)?;
        next.wait()?;
        ensure_ended(&mut capture, "it is gone")?;
        read(&fs::read(file("killed"))?, true)?;
        Ok(())
    })
}

fn ensure_ended(capture: &mut Process, why: &str) -> Result<()> {
    let status = capture.wait(PATIENCE)?;
    let said = capture.output();
    ensure!(
        status.code() == Some(1) && said.contains(why),
        "{status}: {said}"
    );
    Ok(())
}

/// Starts a capture, and waits until it runs.
fn start(scene: &Scene<'_>, name: &str, file: &PathBuf, options: &[&str]) -> Result<Process> {
    let mut command = scene.site.command("capture");
    command.args(options).arg("-w").arg(file);
    let mut process = Process::start(scene.lab, &scene.lab.edge, name, &mut command)?;
    let log = scene.lab.dir().join(format!("{name}.log"));
    process.wait_ready(PATIENCE, || {
        let said = fs::read_to_string(&log)?;
        ensure!(said.contains("capturing at most 128 bytes"), "{said}");
        Ok(())
    })?;
    Ok(process)
}

/// The same into a pipe, which nobody reads yet.
fn piped(scene: &Scene<'_>, options: &[&str]) -> Result<Child> {
    let mut command = scene.site.command("capture");
    command.args(options).args(["-w", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = scene.lab.edge.namespace.spawn(&mut command)?;
    let stderr = child.stderr.as_mut().context("no error output")?;
    let mut said = [0; 9];
    stderr.read_exact(&mut said).context("it said nothing")?;
    ensure!(said == *b"capturing", "{}", String::from_utf8_lossy(&said));
    Ok(child)
}

/// A client that comes again and again.
fn visitor(lab: &Lab) -> Result<Probe> {
    let host = lab.client.clone();
    let visit = move || get(&host, None, (EDGE, port::HTTP).into()).map(drop);
    Probe::start("visitor", Duration::from_millis(20), visit)
}

/// SYNs of the attacker, under its own address.
fn blocked_syns(scene: &Scene<'_>, count: u64) -> Result<Flood> {
    let edge = (EDGE, port::HTTP).into();
    let syn = |port| {
        packet::tcp(
            scene.lab.attack_path(),
            (ATTACKER, port).into(),
            edge,
            Flags::SYN,
        )
    };
    Ok(Flood {
        frames: (20_000..20_100).map(syn).collect::<Result<_>>()?,
        per_second: 5000,
        count,
    })
}

/// A file, read by hand.
#[derive(Debug, Default)]
pub(crate) struct File {
    interfaces: Vec<String>,
    pub(crate) packets: Vec<Recorded>,
}

#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) comment: String,
    /// Packets that it stands for, by its comment.
    weight: u64,
    time: SystemTime,
    length: u32,
}

/// What is in a file, which must be whole, or may still grow.
pub(crate) fn read(bytes: &[u8], whole: bool) -> Result<File> {
    let mut file = File::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let block = match parse_block_le(rest) {
            Ok((after, block)) => {
                rest = after;
                block
            }
            Err(_) if !whole => break,
            Err(error) => bail!("the file is not whole: {error:?}"),
        };
        if let Block::InterfaceDescription(interface) = &block {
            let name = interface.if_name().context("no name")?;
            let name = name.ok().context("not UTF-8")?;
            file.interfaces.push(name.to_owned());
        }
        if let Block::EnhancedPacket(packet) = &block {
            file.packets.push(recorded(packet)?);
        }
    }
    Ok(file)
}

fn recorded(packet: &EnhancedPacketBlock<'_>) -> Result<Recorded> {
    let mut options = packet.options.iter();
    let comment = options.find(|option| option.code == OptionCode::Comment);
    let comment = comment
        .context("no comment")?
        .as_str()
        .ok()
        .context("not UTF-8")?;
    let weight = comment.rsplit(' ').nth(1).context("no weight")?.parse()?;
    let nanoseconds = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
    ensure!(packet.caplen == packet.origlen.min(128), "{packet:?}");
    Ok(Recorded {
        comment: comment.to_owned(),
        weight,
        time: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
        length: packet.origlen,
    })
}

/// Reads both outputs of a program to its end.
fn reader_output(child: &mut Child) -> Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let out = child.stdout.as_mut().context("no output")?;
    out.read_to_end(&mut stdout)?;
    let err = child.stderr.as_mut().context("no error output")?;
    err.read_to_end(&mut stderr)?;
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr,
    })
}
