//! The command line: what the words mean, and one module for what each does.

pub mod access;
mod ask;
pub mod capture;
pub mod check;
mod context;
mod databases;
pub mod detach;
pub mod drain;
pub mod generate;
pub mod lists;
pub mod mitigations;
pub mod output;
pub mod replay;
pub mod run;
pub mod status;
pub mod upgrade;
pub mod why;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use spectrum_common::reason::Reason;

use crate::config;

/// Shields TCP and UDP services: drops attacks at the network card, and proxies what is left to
/// hidden origins.
#[derive(Debug, Parser)]
#[command(name = "spectrum", version, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  spectrum check                    Is the configuration valid, and what would be served?
  spectrum run                      Shield the interfaces, serve the apps
  spectrum status                   What passes, what is dropped, and why
  spectrum block 192.0.2.7 --for 1h

`spectrum <COMMAND> --help` tells more about each.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The host's document; the apps are in the directory that it names
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SPECTRUM_CONFIG",
        default_value = "/etc/spectrum/spectrum.toml"
    )]
    pub config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Drain(Drain),
    Upgrade(UpgradeDaemon),
    Check(Check),
    Status(Status),
    Block(Block),
    Unblock(Unblock),
    Allow(Allow),
    Why(Why),
    Lists(Lists),
    Capture(Capture),
    Replay(Replay),
    Mitigations(Mitigations),
    Detach(Detach),
    #[command(hide = true)]
    Generate(Generate),
}

/// Shield the interfaces and serve the apps
///
/// Runs until SIGINT or SIGTERM, then lets connections finish for as long as `drain` says. SIGHUP,
/// or a change of a document, reloads the configuration. The filter stays attached when the daemon
/// ends, and the next one takes it over; see `spectrum detach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum run
  spectrum run --config ./spectrum.toml --detach-on-exit
  spectrum run --upgrade                        In place of the daemon that runs
  RUST_LOG=debug spectrum run
  RUST_LOG=info,packets=trace spectrum run      A line for every packet")]
pub struct Run {
    /// Detach the filter from the interfaces at the end, and forget its counters and lists
    #[arg(long)]
    pub detach_on_exit: bool,
    /// Take over from the daemon that runs, if one does, without a client noticing
    ///
    /// Listening sockets and UDP sessions go over to this one; the other stays until its TCP
    /// connections have ended, or `drain` is over. If this one cannot start, nothing changes.
    #[arg(long)]
    pub upgrade: bool,
}

/// Let no client in any more, and wait until the connections of those that are in have ended
///
/// Takes apps out of service, for maintenance of this host: new connections are refused, so that
/// clients and balancers go elsewhere, and those that are open go on for as long as they like. Holds until
/// `--end`, or until the daemon ends or another takes over. Ends with 0 when no connection is left, and with 1 if
/// some are after `--timeout`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum drain                                  All apps
  spectrum drain mc.example.com --timeout 10m
  spectrum drain && systemctl stop spectrum
  spectrum drain --end                            Back in service")]
pub struct Drain {
    /// The apps, by name or id; all if none is given
    #[arg(value_name = "APP")]
    pub apps: Vec<String>,
    /// Wait so long at the most, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Do not wait
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Let clients in again
    #[arg(long, conflicts_with_all = ["timeout", "no_wait"])]
    pub end: bool,
}

/// Let the program that is installed now take over from the daemon that runs
///
/// For after an update of the package. The daemon starts its program anew, which takes over as `spectrum
/// run --upgrade` does: no client is refused or cut, and if it cannot start, nothing changes. Returns
/// when it is done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum upgrade
  spectrum upgrade --config ./spectrum.toml")]
pub struct UpgradeDaemon {}

/// Validate the configuration and show what would be served
///
/// Reads the documents only: it needs no rights and changes nothing. Ends with 0 if they are
/// valid, with 1 if not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum check
  spectrum check --config ./spectrum.toml
  spectrum check -o json | jq '.apps[].protocol'")]
pub struct Check {
    #[command(flatten)]
    pub format: Format,
}

/// Show apps, connections, and what was dropped and why
///
/// Asks the daemon, and reads the pinned maps: the counters of the filter are there even while no
/// daemon runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum status
  spectrum status --sources 20      The 20 sources that sent most
  spectrum status -o json")]
pub struct Status {
    /// Show this many of the sources that sent the most packets
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub sources: usize,
    #[command(flatten)]
    pub format: Format,
}

/// Drop everything from a source, at once
///
/// Holds for all apps, or for one. The entry survives a restart of the daemon; with `--for` it
/// expires by itself. Open connections of the source get no further either.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum block 192.0.2.7
  spectrum block 198.51.100.0/24 --for 10m
  spectrum block 2001:db8::/32 --app mc.example.com")]
pub struct Block {
    #[command(flatten)]
    pub entry: Entry,
    /// Even if this is where the operator's own session comes from
    #[arg(long)]
    pub force: bool,
}

/// Undo `spectrum block`
///
/// Entries of the documents stay: these are changed in the documents.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum unblock 192.0.2.7
  spectrum unblock 2001:db8::/32 --app mc.example.com")]
pub struct Unblock {
    /// The address or prefix, as it was blocked
    #[arg(value_parser = config::parse_prefix)]
    pub prefix: IpNet,
    /// The app for which it was blocked, by name or id
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// Admit a source
///
/// Without `--app` the global blocklist no longer touches it, though a wider prefix be blocked.
/// With `--app` it joins the allowlist of that app.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum allow 192.0.2.7
  spectrum allow 203.0.113.0/24 --for 8h --app ssh.example.com")]
pub struct Allow {
    #[command(flatten)]
    pub entry: Entry,
}

/// Say what the filter does with a source, and why
///
/// Shows which entries and limits apply to it, and what the filter has counted of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum why 192.0.2.7
  spectrum why 2001:db8::7 --app ssh.example.com")]
pub struct Why {
    /// The address of the source
    pub ip: IpAddr,
    /// For this app only, by name or id
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// Show what the engine has done against floods, keep it, or undo it
///
/// While an app gets far more than it is used to, the daemon looks for what these packets have in
/// common and what the app's clients have not, and drops what looks so until it comes no more. This
/// shows each such signature with its evidence and what it has matched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum mitigations
  spectrum mitigations accept 3     Keep it until it is removed
  spectrum mitigations remove 3     Undo it, and leave such packets alone for an hour
  spectrum mitigations -o json")]
pub struct Mitigations {
    #[command(subcommand)]
    pub action: Option<MitigationAction>,
    #[command(flatten)]
    pub format: Format,
}

/// Show the lists: how many entries, from where, how old
///
/// The daemon fetches the feeds of `spectrum.toml` on their schedule, and keeps the last good
/// edition of each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum lists
  spectrum lists refresh            Look at the source of every feed now
  spectrum lists refresh drop
  spectrum lists -o json")]
pub struct Lists {
    #[command(subcommand)]
    pub command: Option<ListsCommand>,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum MitigationAction {
    /// Keep a mitigation until it is removed
    Accept(MitigationId),
    /// Undo a mitigation, and leave such packets alone for an hour
    Remove(MitigationId),
}

#[derive(Clone, Copy, Debug, Args)]
pub struct MitigationId {
    /// The number that `spectrum mitigations` shows
    pub id: u32,
    #[command(flatten)]
    pub format: Format,
}

/// Record sampled packets, each with what became of it
///
/// Writes the first 128 bytes of packets as they arrived, before the filter let them pass or not: on
/// each CPU one of each app in a tick of the clock, with the number of packets that it stands for.
/// While little comes that is nearly every packet, and in a flood an even choice. The file is pcapng:
/// Wireshark, tcpdump and `spectrum replay` read it, and Wireshark shows the verdicts as comments.
///
/// Runs until Ctrl-C, or as far as `--count` and `--for` say. A capture costs the filter nothing,
/// and never holds up the daemon: what is read too slowly is lost, and counted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum capture --dropped -w dropped.pcapng
  spectrum capture --reason signature --app mc.example.com --count 1000 -w flood.pcapng
  spectrum capture --source 198.51.100.0/24 --for 10s -w source.pcapng
  spectrum capture -w - | wireshark -k -i -           As they come
  spectrum capture -w - | tcpdump -n -r -")]
pub struct Capture {
    /// Only packets that were dropped
    #[arg(long, conflicts_with = "passed")]
    pub dropped: bool,
    /// Only packets that passed, monitored or not
    #[arg(long)]
    pub passed: bool,
    /// Only packets that a rule dropped, or would have, for this reason
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub reason: Option<Reason>,
    /// Only packets to this app, by name or id
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Only packets from this address or prefix
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub source: Option<IpNet>,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long, such as 10s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Where the packets go; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
}

/// Say what the filter would do with recorded packets
///
/// Runs the real program over each packet of a file, with the rules of the filter that runs, or of
/// the documents if none does. Neither counters nor limits of the filter change; rates, ceilings and
/// rules that limit are not judged, for a replay is far from the pace at which the packets came.
///
/// Ends with 0, with 1 if the file cannot be replayed, and with 3 if a packet met another end than
/// `--expect` says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum replay attack.pcap
  spectrum replay attack.pcapng --app mc.example.com --quiet
  spectrum replay attack.pcap --expect drop           For CI: 0 if all of them are dropped
  spectrum replay clients.pcap --edge 192.0.2.1 --expect pass")]
pub struct Replay {
    /// A file of packets on Ethernet, pcap or pcapng
    pub file: PathBuf,
    /// Only packets to this app, by name or id
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// By the documents, as if the shielded interfaces had this address (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    pub edge: Vec<IpAddr>,
    /// By the filter of this interface, if several are shielded
    #[arg(long, value_name = "NAME", conflicts_with = "edge")]
    pub interface: Option<String>,
    /// The end that every packet must meet: `pass`, `monitor`, `drop`, or a reason
    #[arg(long, value_name = "END", value_parser = replay::End::parse)]
    pub expect: Option<replay::End>,
    /// Only the summary
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum ListsCommand {
    /// Look at the source of a feed now, or of all
    Refresh {
        /// The feed
        name: Option<String>,
    },
}

/// Detach the filter from the interfaces
///
/// Removes what a daemon left pinned, with its counters and lists: the interfaces stand as open as
/// before. Without a name, from every interface that has a filter.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum detach
  spectrum detach eth0")]
pub struct Detach {
    /// The interface
    #[arg(value_name = "INTERFACE")]
    pub interface: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// Write shell completions and man pages, for packages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spectrum generate target/dist")]
pub struct Generate {
    /// Where; gets the directories `completions` and `man`
    pub directory: PathBuf,
}

/// An entry of a blocklist or allowlist.
#[derive(Clone, Debug, Args)]
pub struct Entry {
    /// An address, or a prefix such as 192.0.2.0/24
    #[arg(value_parser = config::parse_prefix)]
    pub prefix: IpNet,
    /// How long it holds, such as 10m or 8h [default: until it is undone]
    #[arg(long = "for", value_name = "DURATION", value_parser = entry_duration)]
    pub lifetime: Option<Duration>,
    /// For this app only, by name or id
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// For commands that print data.
#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Entries expire by the second, and none needs to be told from one without end.
fn entry_duration(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(duration) if (Duration::from_secs(1)..=MAX).contains(&duration) => Ok(duration),
        Ok(_) => Err("expected 1 second to 10 years".to_owned()),
        Err(error) => Err(format!("{error}; for example `10m` or `8h`")),
    }
}

fn reason(name: &str) -> Result<Reason, String> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}
