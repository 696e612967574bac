//! `cargo xtask dist`: what is shipped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build, shell};

/// Build what is shipped: binary, man pages, completions, systemd unit, licences; and a tar.gz.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask dist && tar -tzf target/dist/spectrum-*.tar.gz")]
pub(crate) struct Arguments {}

/// What `spectrum generate` writes, and where shells and man look for it.
const GENERATED: [(&str, &str); 4] = [
    (
        "completions/spectrum.bash",
        "share/bash-completion/completions/spectrum",
    ),
    (
        "completions/_spectrum",
        "share/zsh/site-functions/_spectrum",
    ),
    (
        "completions/spectrum.fish",
        "share/fish/vendor_completions.d/spectrum.fish",
    ),
    ("man", "share/man/man1"),
];

/// What the repository has, and where it goes.
const SOURCES: [(&str, &str); 8] = [
    (
        "packaging/spectrum.service",
        "lib/systemd/system/spectrum.service",
    ),
    ("README.md", "share/doc/spectrum/README.md"),
    ("ARCHITECTURE.md", "share/doc/spectrum/ARCHITECTURE.md"),
    ("CHANGELOG.md", "share/doc/spectrum/CHANGELOG.md"),
    ("LICENSE-MIT", "share/doc/spectrum/LICENSE-MIT"),
    ("LICENSE-APACHE", "share/doc/spectrum/LICENSE-APACHE"),
    ("docs", "share/doc/spectrum"),
    ("examples", "share/doc/spectrum/examples"),
];

pub(crate) fn main(_: &Arguments) -> Result<()> {
    let binary = build::spectrum("dist")?;
    let directory = binary.parent().context("a binary lies in a directory")?;
    let generated = directory.join("generated");
    remove(&generated)?;
    shell::run(Command::new(&binary).arg("generate").arg(&generated))?;

    let version = env!("CARGO_PKG_VERSION");
    let name = format!("spectrum-{version}-{}-linux", env::consts::ARCH);
    let tree = directory.join(&name);
    remove(&tree)?;
    copy(&binary, &tree.join("bin/spectrum"))?;
    for (from, to) in GENERATED {
        copy(&generated.join(from), &tree.join(to))?;
    }
    for (from, to) in SOURCES {
        copy(&shell::root().join(from), &tree.join(to))?;
    }
    let archive = pack(directory, &name)?;
    shell::say(&format!("packed {}", archive.display()));
    Ok(())
}

/// The same tree gives the same archive, whoever packs it and when.
fn pack(directory: &Path, name: &str) -> Result<PathBuf> {
    let archive = directory.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .arg("--file")
        .arg(&archive)
        .args(["--use-compress-program", "gzip -9n"])
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=go=rX,u+rw,a-s"])
        .arg(format!("--mtime=@{}", last_change()))
        .arg("--directory")
        .arg(directory)
        .arg(name);
    shell::run(&mut tar)?;
    Ok(archive)
}

/// Seconds since 1970: `SOURCE_DATE_EPOCH`, or when the last commit was made. 0 for sources
/// without either.
fn last_change() -> String {
    env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| {
        let mut git = Command::new("git");
        git.current_dir(shell::root())
            .args(["log", "-1", "--format=%ct"]);
        shell::output(&mut git).map_or_else(|_| "0".to_owned(), |time| time.trim().to_owned())
    })
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    Ok(())
}

/// Copies a file, or all that is in a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        let entries = fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
        for entry in entries {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}
