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

/// Shells and where each looks for completions, below `/usr/share`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/spectrum"),
    ("zsh", "zsh/site-functions/_spectrum"),
    ("fish", "fish/vendor_completions.d/spectrum.fish"),
];

/// Files of the repository, and where they go.
const FILES: [(&str, &str); 6] = [
    (
        "packaging/spectrum.service",
        "lib/systemd/system/spectrum.service",
    ),
    ("README.md", "share/doc/spectrum/README.md"),
    ("ARCHITECTURE.md", "share/doc/spectrum/ARCHITECTURE.md"),
    ("CHANGELOG.md", "share/doc/spectrum/CHANGELOG.md"),
    ("LICENSE-MIT", "share/doc/spectrum/LICENSE-MIT"),
    ("LICENSE-APACHE", "share/doc/spectrum/LICENSE-APACHE"),
];

pub(crate) fn main(_: &Arguments) -> Result<()> {
    let binary = build::spectrum("dist")?;
    let name = format!(
        "spectrum-{}-{}-linux",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    );
    let directory = binary.parent().context("a binary lies in a directory")?;
    let tree = Tree::new(directory.join(&name))?;
    tree.copy(&binary, "bin/spectrum")?;
    generate(&binary, &tree)?;
    for (from, to) in FILES {
        tree.copy(&shell::root().join(from), to)?;
    }
    let archive = pack(directory, &name)?;
    shell::say(&format!("packed {}", archive.display()));
    Ok(())
}

/// Man pages and completions, by the binary itself.
fn generate(binary: &Path, tree: &Tree) -> Result<()> {
    for (shell, place) in COMPLETIONS {
        let mut command = Command::new(binary);
        let script = shell::output(command.args(["generate", "completions", shell]))?;
        fs::write(tree.place(&format!("share/{place}"))?, script)?;
    }
    let first_page = tree.place("share/man/man1/spectrum.1")?;
    let directory = first_page.parent().context("a page lies in a directory")?;
    let mut command = Command::new(binary);
    shell::run(command.args(["generate", "man"]).arg(directory))
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

/// A directory to be filled from nothing.
struct Tree(PathBuf);

impl Tree {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(Self(path))
    }

    /// The path of a file in the tree, its directory made.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let path = self.0.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(path)
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        fs::copy(from, self.place(to)?).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    }
}
