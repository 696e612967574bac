//! `cargo xtask check`: what a reviewer would otherwise have to say.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{setup, shell};

/// Check format, lints (of the XDP program too) and documentation.
///
/// All of them run; the exit code is not 0 if one finds something.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask check && cargo xtask test")]
pub(crate) struct Arguments {}

pub(crate) fn main(_: &Arguments) -> Result<()> {
    setup::ensure_toolchain()?;
    let mut failed = Vec::new();
    for (name, mut command) in checks() {
        if !shell::status(&mut command)?.success() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    shell::say("check: nothing to complain about");
    Ok(())
}

fn checks() -> [(&'static str, Command); 4] {
    let deny = ["--", "-D", "warnings"];

    let mut format = shell::cargo("fmt");
    format.args(["--all", "--check"]);

    let mut clippy = shell::cargo("clippy");
    clippy
        .args(["--locked", "--workspace", "--all-targets"])
        .args(["--features", "spectrum-fuzz/binaries"])
        .args(deny);

    // The host's clippy reads it for the host: there is no clippy for BPF everywhere. The profile
    // is the program's own, because without std panics must abort.
    let mut clippy_bpf = shell::cargo("clippy");
    clippy_bpf
        .args(["--locked", "--package", "spectrum-ebpf"])
        .args(["--bin", "spectrum-xdp", "--features", "kernel"])
        .args(["--profile", "bpf"])
        .args(deny);

    let mut doc = shell::cargo("doc");
    doc.args(["--locked", "--workspace", "--no-deps"])
        .args(["--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");

    [
        ("format", format),
        ("lints", clippy),
        ("lints of the XDP program", clippy_bpf),
        ("documentation", doc),
    ]
}
