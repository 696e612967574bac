//! `cargo xtask build`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{setup, shell};

/// Build `spectrum`, the XDP program in it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask build                   target/release/spectrum
  cargo xtask build --profile dev     faster to build, slower to run")]
pub(crate) struct Arguments {
    /// Profile of cargo: dev, release, dist.
    #[arg(long, default_value = "release")]
    profile: String,
}

pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    let binary = spectrum(&arguments.profile)?;
    shell::say(&format!("built {}", binary.display()));
    Ok(())
}

/// Builds `spectrum`, after the toolchain is there, and returns its path.
///
/// # Errors
/// The toolchain is missing and cannot be installed, or the build fails.
pub(crate) fn spectrum(profile: &str) -> Result<PathBuf> {
    setup::ensure_toolchain()?;
    let mut command = shell::cargo("build");
    command
        .args(["--package", "spectrum-user", "--bin", "spectrum"])
        .args(["--profile", profile]);
    executable(&mut command, "spectrum")
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs a command of cargo's that builds the executable `name`, and returns its path.
///
/// # Errors
/// It fails.
pub(crate) fn executable(command: &mut Command, name: &str) -> Result<PathBuf> {
    shell::run(command)?;
    // The second time cargo has nothing to do but to say where the binary lies: the user may have
    // configured another target directory.
    command.arg("--message-format=json-render-diagnostics");
    let messages = shell::output(command.stdin(Stdio::null()))?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.name == name)
        .find_map(|message| message.executable)
        .context("cargo has built no executable")
}
