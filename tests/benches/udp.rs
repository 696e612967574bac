//! Measures the ways of a datagram to a hidden origin and back: `cargo xtask bench udp`.
//!
//! Through nginx, through Spectrum's proxy, past it (`data_path = "kernel"`), through the kernel's own
//! address translation, and through nothing. All run in turn, several times, in the same namespaces; what
//! counts is the median.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use spectrum_tests::{
    interrupt,
    load::{Span, raise_file_limit},
    peers::{
        Subject,
        measurement::{DATAGRAMS, Metric},
        report::{Report, table_of},
        run::{run, spectrum},
        site::{Settings, Stage},
    },
};

/// Measures the ways of datagrams, in network namespaces of its own.
///
/// Needs root, and the packages nginx, libnginx-mod-stream, nftables and ethtool. The program `spectrum`
/// is the one in $SPECTRUM_BIN, else the one built beside this bench.
#[derive(Parser)]
struct Arguments {
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Two short repeats instead of five.
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// Every subject, for people.
    Table,
    /// Each way of Spectrum's beside that of another, for programs.
    Json,
}

/// Who is held against whom.
const PAIRS: [(Subject, Option<Subject>); 5] = [
    (Subject::Spectrum, Some(Subject::Nginx)),
    (Subject::SpectrumKernel, Some(Subject::Dnat)),
    (Subject::Nginx, None),
    (Subject::Dnat, None),
    (Subject::Direct, None),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _watch = interrupt::watch(1)?;
    let stage = Stage::new(settings(arguments.quick)?, raise_file_limit()?)?;
    stage.behave_as_wires()?;
    let repeats = if arguments.quick { 2 } else { 5 };
    let results = run(&stage, Subject::UDP.to_vec(), DATAGRAMS, repeats)?;
    let metrics = DATAGRAMS.iter().flat_map(|measurement| measurement.metrics);
    let metrics: Vec<Metric> = metrics.copied().collect();
    let report = Report::of_pairs(&metrics, &results, &PAIRS);
    let mut stdout = io::stdout();
    match arguments.output {
        Output::Json => writeln!(stdout, "{}", serde_json::to_string_pretty(&report)?)?,
        Output::Table => {
            writeln!(stdout, "{}; median of {repeats}\n", report.machine)?;
            writeln!(stdout, "{}", table_of(&metrics, &results, &Subject::UDP))?;
        }
    }
    Ok(())
}

/// A load warms up until its sessions are known, and the filter has been told. A whole run takes eight
/// minutes.
fn settings(quick: bool) -> Result<Settings> {
    let load = Path::new(env!("CARGO_BIN_EXE_spectrum-load"));
    let spectrum = spectrum(load)?;
    Ok(Settings {
        span: Span {
            warm_up: 4.0,
            measured: if quick { 0.7 } else { 1.5 },
        },
        idle_connections: 1000,
        spectrum,
        load: load.to_owned(),
    })
}
