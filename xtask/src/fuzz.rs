//! `cargo xtask fuzz`: bytes that nobody would think of.
//!
//! The compiler that builds everything else also builds the fuzzers: what libFuzzer needs of it is
//! the counting of branches, which is a pass of LLVM.

mod libfuzzer;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{setup, shell};
use libfuzzer::{Session, Status};

/// Fuzz what reads the bytes of others, and what decides about them, one target after another.
///
/// Nothing is needed but a C++ compiler, which is installed where it is missing. The first build
/// takes some minutes. Inputs that lead somewhere new are kept in `target/fuzz/corpus`; the exit
/// code is not 0 if one was found that makes a target panic.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --for 60s              each target for a minute
  cargo xtask fuzz packet feeds --for 1h")]
pub(crate) struct Arguments {
    /// Only these targets; their names are those of the files in `fuzz/src/bin`.
    targets: Vec<String>,
    /// Time for each target.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

/// What makes the compiler count the branches that an input takes, and tell libFuzzer of
/// comparisons; as cargo-fuzz does.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// Inputs that are there for other reasons, by target.
const MORE_SEEDS: [(&str, &str); 2] = [
    ("documents", "examples/apps.d"),
    ("documents", "spectrum-user/tests/config"),
];

pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let targets = chosen(&arguments.targets)?;
    ensure!(
        arguments.duration >= Duration::from_secs(1),
        "a target needs a second at least\n  help: `--for 60s`"
    );
    let absent = setup::ensure_packages(setup::FUZZ)?;
    if !absent.is_empty() {
        bail!("{}", setup::remedy(&absent));
    }
    let binaries = build()?;
    let mut ended = Vec::new();
    for target in targets {
        ended.push(fuzz(&target, &binaries, arguments.duration)?);
    }
    report(&ended);
    let is_good = ended.iter().all(|session| session.finding.is_none());
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The targets of these names; all if there is none.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(shell::root().join("fuzz/src/bin"))? {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    targets.sort();
    if let Some(unknown) = names.iter().find(|name| !targets.contains(name)) {
        bail!(
            "no target is called {unknown}\n  help: {}",
            targets.join(", ")
        );
    }
    Ok(if names.is_empty() {
        targets
    } else {
        names.to_vec()
    })
}

/// Builds all of them, and returns the directory where they are.
fn build() -> Result<PathBuf> {
    setup::ensure_toolchain()?;
    let directory = directory();
    let host = host()?;
    // With a target named, what runs during the build is not instrumented.
    let mut build = shell::cargo("build");
    build
        .args(["--locked", "--package", "spectrum-fuzz", "--bins"])
        .args(["--features", "libfuzzer", "--profile", "fuzz"])
        .args(["--target", &host, "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    shell::run(&mut build)?;
    Ok(directory.join(host).join("fuzz"))
}

fn directory() -> PathBuf {
    shell::root().join("target/fuzz")
}

/// The triple of this machine.
fn host() -> Result<String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

fn fuzz(target: &str, binaries: &Path, duration: Duration) -> Result<Session> {
    let corpus = directory().join("corpus").join(target);
    let findings = directory().join("findings").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let binary = binaries.join(target);
    let mut command = Command::new(&binary);
    command
        .current_dir(shell::root())
        .arg(format!("-max_total_time={}", duration.as_secs()))
        // One that takes longer, or more memory, is a finding as well.
        .args(["-timeout=10", "-rss_limit_mb=2048"])
        .args(["-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&corpus)
        .args(seeds(target));
    let session = libfuzzer::run(target, &mut command)?;
    if let Some(finding) = &session.finding {
        explain(target, &binary, finding);
    }
    Ok(session)
}

fn seeds(target: &str) -> Vec<PathBuf> {
    let own = ["fuzz/seeds", "fuzz/regressions"].map(|kind| Path::new(kind).join(target));
    let more = MORE_SEEDS.iter().filter(|(of, _)| *of == target);
    let more = more.map(|(_, directory)| PathBuf::from(directory));
    let all = own.into_iter().chain(more);
    all.filter(|seeds| shell::root().join(seeds).is_dir())
        .collect()
}

/// What to do about a finding.
fn explain(target: &str, binary: &Path, finding: &Path) {
    let (binary, finding) = (binary.display(), finding.display());
    shell::say(&format!(
        "\n{target}: found {finding}\n  \
         see it:     RUST_BACKTRACE=1 {binary} {finding}\n  \
         debug it:   rust-gdb --args {binary} {finding}\n  \
         shorten it: {binary} -minimize_crash=1 -max_total_time=60 {finding}\n  \
         keep it:    mkdir -p fuzz/regressions/{target} && cp {finding} \
         fuzz/regressions/{target}/WHAT_IT_SHOWS\n  \
         from then on `cargo test --package spectrum-fuzz` tries it again\n"
    ));
}

fn report(ended: &[Session]) {
    shell::say("\ntarget            executions      per s  coverage  new inputs  findings");
    for session in ended {
        let Status {
            executions,
            per_second,
            coverage,
        } = session.status;
        let findings = u8::from(session.finding.is_some());
        shell::say(&format!(
            "{:<16}{executions:>12}{per_second:>11}{coverage:>10}{:>12}{findings:>10}",
            session.target, session.new_inputs
        ));
    }
}
