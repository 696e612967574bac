//! `cargo xtask test --kernels`: the verdict tables on the kernels that users have.
//!
//! A virtual machine is a kernel of Debian's and an archive with the test, the libraries that it is
//! linked with, and a first process ([`spectrum_tests::guest`]) that runs it. Nothing is installed.

mod archive;
mod debian;
mod emulator;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use spectrum_tests::guest;

use super::{exit_code, report, stream, summary::Parser};
use crate::{build, setup, shell};
use archive::Archive;
use debian::Kernel;
use emulator::Emulator;

/// What Debian 12 has, and what its backports and Debian 13 have.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A machine that has not ended by itself by then hangs, in the words of timeout(1).
const DEADLINE: &str = "15m";

/// The first process.
const GUEST: &str = "spectrum-guest";
/// What it runs.
const TEST: &str = "verdict";

pub(super) fn main(runner: &[&String]) -> Result<ExitCode> {
    let directory = shell::root().join("target/kernels");
    let emulator = Emulator::fetch(&directory)?;
    let kernels = SERIES.map(|series| debian::fetch(series, &directory));
    let archive = directory.join("guest.cpio");
    pack(&archive)?;

    let mut parser = Parser::default();
    let mut costs = Vec::new();
    let mut is_good = true;
    for kernel in kernels {
        let kernel = kernel?;
        parser.begin(kernel.release.clone());
        is_good &= boot(&emulator, &kernel, &archive, runner, |line| {
            parser.read(line);
            // The runner may have begun the line.
            if let Some((_, cost)) = line.split_once("verified: ") {
                costs.push(format!("{}: {cost}", kernel.release));
            }
        })?;
    }
    let summary = parser.finish();
    shell::say(&costs.join("\n"));
    report(&summary);
    Ok(exit_code(is_good && summary.is_good()))
}

/// Builds the test and the first process, and puts them into an archive.
fn pack(path: &Path) -> Result<()> {
    setup::ensure_toolchain()?;
    let mut guest = shell::cargo("build");
    guest.args(["--package", super::LAB_TESTS, "--bin", "spectrum-guest"]);
    let mut test = shell::cargo("test");
    test.args([
        "--package",
        super::LAB_TESTS,
        "--test",
        "verdict",
        "--no-run",
    ]);

    let mut archive = Archive::default();
    for (command, name, place) in [(&mut guest, GUEST, "init"), (&mut test, TEST, TEST)] {
        let binary = build::executable(command, name)?;
        for library in libraries(&binary)? {
            archive.add(&library, &library)?;
        }
        archive.add(&Path::new("/").join(place), &binary)?;
    }
    archive.write(path)
}

/// The libraries that a program is linked with, and the loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = shell::output(Command::new("ldd").arg(program))?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let paths = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Runs the test on a kernel, and says whether it ended well.
fn boot(
    emulator: &Emulator,
    kernel: &Kernel,
    archive: &Path,
    runner: &[&String],
    mut read: impl FnMut(&str),
) -> Result<bool> {
    // Without a word of the kernel's own as long as all goes well; what follows `--` is for init.
    let mut words = format!("console=ttyS0 quiet panic=-1 -- /{TEST} --color=never");
    for word in runner {
        words += &format!(" {word}");
    }
    let mut machine = Command::new("timeout");
    // In our process group, so that Ctrl-C reaches it.
    machine.args(["--foreground", DEADLINE]);
    emulator.append_to(&mut machine)?;
    machine
        .args(["-accel", "tcg", "-cpu", "max", "-m", "2G"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &words])
        .stdin(Stdio::null());
    let mut ended = None;
    stream(&mut machine, |line| {
        let line = line.trim_end();
        ended = line
            .strip_prefix(guest::ENDED)
            .map(str::to_owned)
            .or(ended.take());
        read(line);
    })?;
    let ended = ended.with_context(|| format!("{}: the test did not end", kernel.release))?;
    Ok(ended == "exit status: 0")
}
