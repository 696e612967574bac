//! Makes a machine ready: the toolchain, the programs that tests and benches need, bpffs.
//!
//! Installs packages of the distribution and tools in `target/tools`, and nothing elsewhere. What
//! is there is left alone. On a machine that we cannot install on, says what is missing and how to
//! get it.

pub(crate) mod apt;
mod bpffs;
mod packages;
mod progress;
mod toolchain;

use anyhow::{Result, bail};

use crate::shell;

pub(crate) use bpffs::mount_bpffs;
pub(crate) use packages::{BENCH, FUZZ, LAB, Package, remedy};
pub(crate) use toolchain::ensure_toolchain;

/// Install what builds, tests and benches need (the other commands do so by themselves).
///
/// Needs root and apt where something is missing; says what to install by hand otherwise.
/// Servers that it installs are neither started nor enabled at boot.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup                 all of it
  cargo xtask setup --only build    what `cargo build` needs")]
pub(crate) struct Arguments {
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A compiler and a linker for BPF.
    Build,
    /// The programs with which the lab and the tests work.
    Lab,
    /// The proxies that benches measure beside ours.
    Bench,
}

pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut missing = Vec::new();
    if wanted(Part::Build) {
        missing.extend(ensure_toolchain().err().map(|error| format!("{error:#}")));
    }
    let groups = [(Part::Lab, LAB), (Part::Bench, BENCH)];
    let packages = groups
        .into_iter()
        .filter(|(part, _)| wanted(*part))
        .flat_map(|(_, group)| group);
    let absent = ensure_packages(packages)?;
    if !absent.is_empty() {
        missing.push(remedy(&absent));
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    if shell::is_root() && wanted(Part::Lab) {
        mount_bpffs()?;
    }
    shell::say("setup: everything is there");
    Ok(())
}

/// Installs the packages that are missing. Where that is impossible (no root, no apt), returns
/// them; the caller knows whether it can do without.
///
/// # Errors
/// Installing was possible, and failed.
pub(crate) fn ensure_packages<'a>(
    packages: impl IntoIterator<Item = &'a Package>,
) -> Result<Vec<&'a Package>> {
    let mut missing: Vec<_> = packages
        .into_iter()
        .filter(|package| !package.is_there())
        .collect();
    if missing.is_empty() || !apt::is_usable() {
        return Ok(missing);
    }
    shell::say("setup: installing");
    for package in &missing {
        shell::say(&format!("  {:<22} {}", package.name, package.purpose));
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    apt::install(&names)?;
    for service in missing.iter().filter_map(|package| package.service) {
        apt::disable_service(service);
    }
    missing.retain(|package| !package.is_there());
    if !missing.is_empty() {
        bail!(
            "installed, and yet not there: {}",
            packages::names(&missing)
        );
    }
    Ok(missing)
}

/// Like [`ensure_packages`] for someone who can go on without, and says what will be lost.
pub(crate) fn ensure_packages_if_possible<'a>(
    packages: impl IntoIterator<Item = &'a Package>,
    loss: &str,
) -> Result<()> {
    let absent = ensure_packages(packages)?;
    if !absent.is_empty() {
        shell::say(&format!("note: {}\n  {loss}", remedy(&absent)));
    }
    Ok(())
}
