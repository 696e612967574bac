//! `spectrum replay FILE`: what the filter would do with recorded packets.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use nix::ifaddrs::getifaddrs;
use serde::Serialize;
use spectrum_common::reason::Reason;
use spectrum_ebpf::{parse::Packet, verdict::Outcome};

use super::{Global, context::Context, output};
use crate::{
    config::{AppId, Config, Mode},
    dataplane::{Pins, replay::Replay},
    geo,
    recording::{self, Recorded},
};

/// Ends the command if a packet met another end than was expected.
const UNEXPECTED: u8 = 3;

/// The shortest frame that the kernel runs a program over: an Ethernet header.
const SHORTEST: usize = 14;

/// How a packet may end, in the words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Pass,
    Monitor,
    Drop,
    /// Dropped, or monitored, for this reason.
    For(Reason),
}

impl End {
    /// # Errors
    /// No such end.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "pass" => return Ok(Self::Pass),
            "monitor" => return Ok(Self::Monitor),
            "drop" => return Ok(Self::Drop),
            _ => {}
        }
        let reason = super::reason(word);
        let also = |reasons| format!("{reasons}, pass, monitor, drop");
        reason.map(Self::For).map_err(also)
    }

    fn is_met_by(self, outcome: Outcome) -> bool {
        match self {
            Self::Pass => outcome == Outcome::Passed,
            Self::Monitor => matches!(outcome, Outcome::Monitored(_)),
            Self::Drop => matches!(outcome, Outcome::Dropped(_)),
            Self::For(reason) => outcome.objection().is_some_and(|(of, _)| of == reason),
        }
    }
}

#[derive(Serialize)]
struct Report {
    /// Whose rules: `filter of eth0` or `documents`.
    rules: String,
    packets: u64,
    /// Packets that were to another app than the one asked for.
    skipped: u64,
    /// Packets that met another end than was expected.
    unexpected: u64,
    summary: Vec<Group>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verdicts: Vec<PacketVerdict>,
}

/// Packets of the same app and the same end.
#[derive(Serialize)]
struct Group {
    app: Option<String>,
    verdict: &'static str,
    reason: Option<&'static str>,
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct PacketVerdict {
    number: u64,
    verdict: &'static str,
    reason: Option<&'static str>,
    app: Option<String>,
    /// Absent if it is not IP, or cannot be read.
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    length: usize,
}

pub fn run(global: &Global, args: &super::Replay) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let file = File::open(&args.file);
    let file = file.with_context(|| format!("cannot open {}", args.file.display()))?;
    let wanted = args
        .app
        .as_deref()
        .map(|name| context.app(name))
        .transpose()?;
    let wanted = wanted.map(|app| app.id);
    let (mut replay, rules) = ask_whom(&context, args)?;
    let mut report = Report {
        rules,
        packets: 0,
        skipped: 0,
        unexpected: 0,
        summary: Vec::new(),
        verdicts: Vec::new(),
    };
    let mut groups = BTreeMap::new();
    let replayed = recording::read(file, |recorded| {
        let frame = frame(recorded)?;
        let (packet, app) = replay.look_at(&frame)?;
        if wanted.is_some() && wanted != app {
            report.skipped += 1;
            return Ok(());
        }
        let outcome = replay.judge(&frame)?;
        report.packets += 1;
        let is_unexpected = args.expect.is_some_and(|end| !end.is_met_by(outcome));
        report.unexpected += u64::from(is_unexpected);
        let (verdict, reason) = words(outcome);
        let (packets, bytes) = groups.entry((app, verdict, reason)).or_insert((0, 0));
        *packets += 1;
        *bytes += frame.len() as u64;
        if !args.quiet {
            report.verdicts.push(PacketVerdict {
                number: recorded.number,
                verdict,
                reason,
                app: app.map(|id| app_name(&context, id)),
                source: socket(&packet, packet.source.into(), packet.source_port),
                destination: socket(&packet, packet.destination.into(), packet.destination_port),
                length: frame.len(),
            });
        }
        Ok(())
    });
    replayed.with_context(|| args.file.display().to_string())?;
    let groups = groups.into_iter();
    report.summary = groups
        .map(|((app, verdict, reason), (packets, bytes))| Group {
            app: app.map(|id| app_name(&context, id)),
            verdict,
            reason,
            packets,
            bytes,
        })
        .collect();
    output::print_as(args.format.output, &report, || report.text())?;
    Ok(if report.unexpected == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNEXPECTED)
    })
}

/// The rules of a running filter, or else of the documents; and whose they are.
fn ask_whom(context: &Context, args: &super::Replay) -> Result<(Replay, String)> {
    let pinned = Pins::interfaces(&context.pin_dir);
    let interface = match (&args.interface, pinned.as_slice()) {
        (Some(wanted), pinned) if !pinned.contains(wanted) => {
            bail!(
                "no filter runs on {wanted}\n  help: there are filters on: {}",
                pinned.join(", ")
            )
        }
        (Some(wanted), _) => Some(wanted),
        (None, [first, ..]) if args.edge.is_empty() => Some(first),
        (None, _) => None,
    };
    if let Some(interface) = interface {
        let replay = Replay::of_pinned(&Pins::new(&context.pin_dir, interface));
        let replay = replay.with_context(|| format!("cannot copy the filter of {interface}"))?;
        return Ok((replay, format!("the filter of {interface}")));
    }
    let Some(config) = &context.config else {
        bail!("no filter runs, and the documents cannot be read");
    };
    let mut config = config.clone();
    config.host.closed_ports.get_or_insert(Mode::Enforce);
    let addresses = if args.edge.is_empty() {
        addresses(&config)?
    } else {
        args.edge.clone()
    };
    let (places, errors) = geo::read_all(config.host.geo.databases.iter().map(AsRef::as_ref));
    for error in errors {
        log::warn!("{error:#}; rules do not apply to whom it alone knows");
    }
    let replay = Replay::of_documents(&config, &addresses, &Arc::new(places))?;
    Ok((replay, "the documents".to_owned()))
}

/// The addresses of the interfaces that the documents name.
fn addresses(config: &Config) -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("cannot list the addresses of the interfaces")?;
    let of_ours = all.filter(|entry| config.host.interfaces.contains(&entry.interface_name));
    let addresses = of_ours.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}

/// A packet as it was on the wire; what was not captured of it is zero.
fn frame(recorded: &Recorded<'_>) -> Result<Vec<u8>> {
    let mut frame = recorded.captured.to_vec();
    if frame.len() < SHORTEST {
        bail!(
            "{} bytes are no Ethernet frame: it has {SHORTEST} at least",
            frame.len()
        );
    }
    if recorded.length > frame.len() {
        frame.resize(recorded.length.min(usize::from(u16::MAX)), 0);
    }
    Ok(frame)
}

const fn words(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Passed => ("pass", None),
        Outcome::Monitored(reason) => ("monitor", Some(reason.name())),
        Outcome::Dropped(reason) => ("drop", Some(reason.name())),
        Outcome::Answered => ("challenge", None),
    }
}

fn app_name(context: &Context, id: AppId) -> String {
    let mut apps = context.config.iter().flat_map(|config| &config.apps);
    let app = apps.find(|app| app.id == id);
    app.map_or_else(|| id.to_string(), |app| app.name.clone())
}

fn socket(packet: &Packet, ip: IpAddr, port: u16) -> Option<SocketAddr> {
    (packet.kind == spectrum_ebpf::parse::Kind::Addressed).then(|| SocketAddr::new(ip, port))
}

impl Report {
    fn text(&self) -> String {
        let mut text: String = self.verdicts.iter().map(PacketVerdict::line).collect();
        if !text.is_empty() {
            text.push('\n');
        }
        let mut table = output::table(&["APP", "VERDICT", "REASON", "PACKETS", "BYTES"]);
        for group in &self.summary {
            table.add_row([
                group.app.as_deref().unwrap_or("no app"),
                group.verdict,
                group.reason.unwrap_or_default(),
                &output::count(group.packets),
                &output::bytes(group.bytes),
            ]);
        }
        text += &format!("By the rules of {}:\n{table}\n", self.rules);
        if self.skipped > 0 {
            let skipped = output::count(self.skipped);
            text += &format!("{skipped} packets were not for this app.\n");
        }
        if self.unexpected > 0 {
            let unexpected = output::count(self.unexpected);
            text += &format!("{unexpected} packets met another end than expected.\n");
        }
        text
    }
}

impl PacketVerdict {
    fn line(&self) -> String {
        let way = match (self.source, self.destination) {
            (Some(source), Some(destination)) => format!("{source} → {destination}"),
            _ => "not IP".to_owned(),
        };
        format!(
            "{:>6}  {:<7}  {:<14}  {way}  {}  {} bytes\n",
            self.number,
            self.verdict,
            self.reason.unwrap_or_default(),
            self.app.as_deref().unwrap_or("no app"),
            self.length
        )
    }
}
