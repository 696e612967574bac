//! `cargo xtask`: everything one does with this repository.

mod bench;
mod build;
mod check;
mod dist;
mod fuzz;
mod run;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, runs, tests and measures Spectrum.
///
/// Each command first installs what it needs and the machine lacks: packages of the distribution,
/// and tools in `target/`. On a fresh machine start with `cargo xtask run` or `cargo xtask test`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Arguments),
    Build(build::Arguments),
    Run(run::Arguments),
    Test(test::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    Fuzz(fuzz::Arguments),
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Setup(arguments) => setup::main(&arguments).map(done),
        Command::Build(arguments) => build::main(&arguments).map(done),
        Command::Run(arguments) => run::main(arguments),
        Command::Test(arguments) => test::main(&arguments),
        Command::Check(arguments) => check::main(&arguments).map(done),
        Command::Bench(arguments) => bench::main(&arguments).map(done),
        Command::Fuzz(arguments) => fuzz::main(&arguments),
        Command::Dist(arguments) => dist::main(&arguments).map(done),
    }
}
