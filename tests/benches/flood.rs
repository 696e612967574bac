//! Who survives a flood: clients of a service behind no protection, kernel SYN cookies, nftables'
//! synproxy, and Spectrum, under each kind of attack at the attacker's full speed.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, ValueEnum, builder::PossibleValuesParser};
use spectrum_tests::{
    daemon,
    flood::{
        Attack, Defence,
        report::{Results, report, table},
        survival::survive,
    },
    interrupt,
};

/// Measures who is still served under attack, in network namespaces of its own.
///
/// Attackers send on one core; clients, proxies and origin run on the other. Needs root and two
/// cores. Programs that are not installed make the run fail: `cargo xtask bench flood` installs
/// them.
#[derive(Parser)]
struct Arguments {
    /// `table` or `json`
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Seconds of each attack
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// How often each attack meets each defence; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Only these attacks
    #[arg(long, value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Attack::ALL.map(Attack::word))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _watch = interrupt::watch(1)?;
    let span = Duration::from_secs(arguments.seconds);
    let spectrum = daemon::binary()?;
    let mut results = Results::default();
    let is_wanted = |attack: &Attack| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == attack.word())
    };
    let repeats = arguments.repeats;
    for repeat in 1..=repeats {
        for attack in Attack::ALL.into_iter().filter(is_wanted) {
            for defence in Defence::ALL {
                let (name, by) = (attack.name(), defence.name());
                writeln!(io::stderr(), "repeat {repeat} of {repeats}: {name}: {by}")?;
                let survival = survive(defence, attack, span, spectrum.clone())?;
                results.add(attack, defence, survival);
            }
        }
    }
    let text = match arguments.output {
        Output::Json => serde_json::to_string_pretty(&report(&results))?,
        Output::Table => table(&results),
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}
