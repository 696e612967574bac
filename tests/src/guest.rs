//! The first process of a virtual machine that has nothing but a kernel and an archive with a test:
//! makes the machine fit for it, runs it, says how it ended, and switches the machine off.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

/// Begins the line that says how the test ended; the rest is its exit status.
pub const ENDED: &str = "guest: ended with ";

/// Runs the command line of the process, which is what the kernel's has after `--`.
///
/// # Errors
/// The machine cannot be switched off.
pub fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let ended = arguments
        .next()
        .context("no program to run")
        .and_then(|program| run(&program, arguments));
    let mut stdout = io::stdout().lock();
    match ended {
        Ok(status) => writeln!(stdout, "{ENDED}{status}")?,
        Err(error) => writeln!(stdout, "guest: {error:#}")?,
    }
    stdout.flush()?;
    match reboot(RebootMode::RB_POWER_OFF)? {}
}

fn run(program: &OsString, arguments: impl Iterator<Item = OsString>) -> Result<String> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        mount_at(kind, Path::new(at)).with_context(|| format!("mounting {at}"))?;
    }
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| program.display().to_string())?;
    Ok(status.to_string())
}

fn mount_at(kind: &str, at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    Ok(mount(
        Some(kind),
        at,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )?)
}
