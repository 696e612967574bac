//! Measures Spectrum's proxy beside HAProxy and nginx: `cargo xtask bench proxy`.
//!
//! All run in turn, several times, in the same namespaces; what counts is the median.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Result;
use clap::{Parser, ValueEnum, builder::PossibleValuesParser};
use spectrum_tests::{
    interrupt,
    load::{Span, raise_file_limit},
    peers::{
        Subject,
        measurement::{MEASUREMENTS, Metric},
        report::{Report, table},
        run::{run, spectrum},
        site::{Settings, Stage},
    },
};

/// Measures Spectrum's proxy beside HAProxy and nginx, in network namespaces of its own.
///
/// Needs root, and the packages haproxy, nginx, libnginx-mod-stream and ethtool. The program
/// `spectrum` is the one in $SPECTRUM_BIN, else the one built beside this bench.
#[derive(Parser)]
struct Arguments {
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Two short repeats instead of five, with fewer idle connections.
    #[arg(long)]
    quick: bool,
    /// Measure this; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = names())]
    only: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// Every subject, for people.
    Table,
    /// Spectrum beside the better peer, for programs.
    Json,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(MEASUREMENTS.iter().map(|measurement| measurement.name))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let measurements: Vec<_> = MEASUREMENTS
        .iter()
        .filter(|measurement| {
            arguments.only.is_empty() || arguments.only.iter().any(|name| name == measurement.name)
        })
        .collect();
    let _watch = interrupt::watch(1)?;
    let stage = Stage::new(settings(arguments.quick)?, raise_file_limit()?)?;
    let repeats = if arguments.quick { 2 } else { 5 };
    let results = run(&stage, Subject::ALL.to_vec(), measurements.clone(), repeats)?;
    let metrics: Vec<Metric> = measurements
        .iter()
        .flat_map(|measurement| measurement.metrics)
        .copied()
        .collect();
    let report = Report::new(&metrics, &results);
    let mut stdout = io::stdout();
    match arguments.output {
        Output::Json => writeln!(stdout, "{}", serde_json::to_string_pretty(&report)?)?,
        Output::Table => {
            let (machine, idle) = (report.machine, stage.idle_connections());
            writeln!(
                stdout,
                "{machine}; median of {repeats}; memory of {idle} connections\n"
            )?;
            writeln!(stdout, "{}", table(&metrics, &results))?;
        }
    }
    Ok(())
}

/// Loads so long that a whole run takes 12 minutes at most, a quick one 3.
fn settings(quick: bool) -> Result<Settings> {
    let load = Path::new(env!("CARGO_BIN_EXE_spectrum-load"));
    let spectrum = spectrum(load)?;
    let (warm_up, measured) = if quick { (0.2, 0.7) } else { (0.3, 1.5) };
    Ok(Settings {
        span: Span { warm_up, measured },
        idle_connections: if quick { 2000 } else { 10_000 },
        spectrum,
        load: load.to_owned(),
    })
}
