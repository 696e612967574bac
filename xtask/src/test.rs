//! `cargo xtask test`: runs all tests and says at the end, in one line, what came of them.

mod kernels;
mod summary;

use std::{
    io::{self, Read as _, Write as _},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};

use crate::{build, setup, shell};
use summary::{Parser, Summary};

/// The crate whose tests work with the program in the kernel and with hosts in namespaces.
const LAB_TESTS: &str = "spectrum-tests";

/// Run the tests: units, properties, verdict tables, model, end to end.
///
/// Without root, tests that need it are reported as skipped, by name. The last line is
/// `N passed, N failed, N skipped`; the exit code is not 0 if a test failed or none ran.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                    everything
  cargo xtask test --unit             what needs neither root nor packages
  cargo xtask test --kernels          the verdict tables on Debian's 6.1 and 6.12 kernels, emulated
  cargo xtask test blocked            tests with `blocked` in their names
  cargo xtask test ssh -- --nocapture")]
pub(crate) struct Arguments {
    /// Only tests whose names contain this.
    filter: Option<String>,
    /// Only the tests of the crates themselves, on the host.
    #[arg(long, conflicts_with = "e2e")]
    unit: bool,
    /// Only the tests of `spectrum-tests`: verdict tables, model, end to end.
    #[arg(long)]
    e2e: bool,
    /// Only the verdict tables, on the kernels of Debian 12 and 13, in virtual machines.
    #[arg(long, conflicts_with_all = ["e2e", "unit"])]
    kernels: bool,
    /// Arguments of the test runners.
    #[arg(last = true)]
    runner: Vec<String>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let runner: Vec<_> = arguments.filter.iter().chain(&arguments.runner).collect();
    if arguments.kernels {
        return kernels::main(&runner);
    }
    let mut command = cargo_test(arguments)?;
    command.arg("--").args(runner);

    let mut parser = Parser::default();
    let status = stream(&mut command, |line| parser.read(line))?;
    let summary = parser.finish();
    if !status.success() && summary.is_good() {
        shell::say(&format!(
            "no test is reported as failed, and yet `cargo test` failed: {status}"
        ));
    }
    report(&summary);
    Ok(exit_code(status.success() && summary.is_good()))
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Builds all that the tests need, and returns the command that runs them.
fn cargo_test(arguments: &Arguments) -> Result<Command> {
    let mut command = shell::cargo("test");
    if arguments.e2e {
        command.args(["--package", LAB_TESTS]);
    } else {
        command.arg("--workspace");
    }
    if arguments.unit {
        command.args(["--exclude", LAB_TESTS]);
        setup::ensure_toolchain()?;
    } else {
        let loss = "the tests that need them are skipped";
        setup::ensure_packages_if_possible(setup::LAB, loss)?;
        command.env("SPECTRUM_BIN", build::spectrum("release")?);
        if shell::is_root() {
            setup::mount_bpffs()?;
        }
    }
    // On its own, so that it has the terminal, and is told from a failing test.
    command
        .arg("--no-fail-fast")
        .env("CARGO_TERM_COLOR", "never");
    let mut build = shell::cargo("test");
    build.args(command.get_args().skip(1)).arg("--no-run");
    shell::run(&mut build)?;
    Ok(command)
}

/// Runs `command`, prints what it says as it comes, and hands each whole line to `read`.
fn stream(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    let line = shell::line(command);
    shell::say(&format!("$ {line}"));
    // One pipe for both: cargo names the runner on stderr, and the runner speaks on stdout.
    let (mut reader, writer) = io::pipe()?;
    let spawned = command.stdout(writer.try_clone()?).stderr(writer).spawn();
    // The command holds the writing end until it is given another one.
    command.stdout(io::stdout()).stderr(io::stderr());
    let mut child = spawned.with_context(|| format!("cannot start `{line}`"))?;

    let mut unfinished = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = reader.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..length).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(chunk)?;
        stdout.flush()?;
        unfinished.extend_from_slice(chunk);
        let whole = unfinished.iter().rposition(|byte| *byte == b'\n');
        let rest = unfinished.split_off(whole.map_or(0, |end| end + 1));
        String::from_utf8_lossy(&unfinished)
            .lines()
            .for_each(&mut read);
        unfinished = rest;
    }
    read(&String::from_utf8_lossy(&unfinished));
    Ok(child.wait()?)
}

/// The summary, its plain line last.
fn report(summary: &Summary) {
    let mut text = String::from("\n");
    for (word, names) in [("skipped", &summary.skips), ("failed", &summary.failures)] {
        for name in names {
            text += &format!("{word:<8} {name}\n");
        }
    }
    if summary.ran() == 0 {
        text += "no test ran\n";
    }
    text += &format!("{summary}\n");
    let mut stdout = io::stdout().lock();
    // Whoever closed our stdout does not want to know.
    drop(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    );
}
