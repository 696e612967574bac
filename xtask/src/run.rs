//! `cargo xtask run`: the lab, or the daemon on this host.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use spectrum_tests::demo;

use crate::{build, setup, shell};

/// Run Spectrum: in the lab, or with `-- --config FILE` on this host.
///
/// The lab is a client, an attacker, an edge and an origin in network namespaces of their own;
/// the screen shows what gets through and what is dropped. Ctrl-C ends it and leaves nothing
/// behind. Needs root.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run                                  the lab, until Ctrl-C
  cargo xtask run --for 20s                        ends by itself; fails unless clients were
                                                   served and attacks dropped
  cargo xtask run -- --config spectrum.toml        the daemon on this host's interfaces")]
pub(crate) struct Arguments {
    /// End the lab after this time, with a summary.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Arguments of `spectrum run`.
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

pub(crate) fn main(arguments: Arguments) -> Result<ExitCode> {
    if arguments.daemon.is_empty() {
        return lab(arguments.duration);
    }
    if arguments.duration.is_some() {
        bail!("--for is for the lab, which does not run when `spectrum run` gets arguments");
    }
    daemon(&arguments.daemon)
}

fn lab(duration: Option<Duration>) -> Result<ExitCode> {
    if !shell::is_root() {
        bail!(
            "the lab needs root: it makes network namespaces and loads an XDP program\n  \
             run `sudo -E env \"PATH=$PATH\" cargo xtask run`"
        );
    }
    let loss = "the lab goes on without them, where it can";
    setup::ensure_packages_if_possible(setup::LAB, loss)?;
    let spectrum = build::spectrum("release")?;
    setup::mount_bpffs()?;
    let outcome = demo::run(demo::Options { spectrum, duration })?;
    Ok(if outcome.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Becomes the daemon, so that signals and the exit code are its own.
fn daemon(arguments: &[OsString]) -> Result<ExitCode> {
    let spectrum = build::spectrum("release")?;
    if shell::is_root() {
        setup::mount_bpffs()?;
    }
    let mut command = Command::new(spectrum);
    bpf_build::forget_outer_cargo(&mut command);
    command.arg("run").args(arguments);
    shell::say(&format!("$ {}", shell::line(&command)));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", shell::line(&command)))
}
