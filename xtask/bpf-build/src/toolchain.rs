//! Which compiler and which linker.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// A compiler with the source of `core`, and a linker for its LLVM.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// A compiler that can build `core` for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// `rustup run nightly`, with the component `rust-src`.
    RustupNightly,
    /// The distribution's own rustc and cargo, with the source of `core` beside them; unstable
    /// options are unlocked by `RUSTC_BOOTSTRAP`.
    System { rustc: PathBuf, cargo: PathBuf },
}

/// Where tools that this project builds for itself live: `<root>/target/tools`.
pub fn tools_dir(root: &Path) -> PathBuf {
    root.join("target/tools")
}

/// Finds what is there, and changes nothing.
///
/// # Errors
/// What is missing, and how to get it.
pub fn find(root: &Path) -> Result<Toolchain> {
    Ok(Toolchain {
        compiler: find_compiler()?,
        linker: find_linker(root)?,
    })
}

fn find_compiler() -> Result<Compiler> {
    if nightly_sysroot().is_some_and(|sysroot| has_core_source(&sysroot)) {
        return Ok(Compiler::RustupNightly);
    }
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    if cargo.exists() && sysroot_of(&mut Command::new(&rustc)).is_some_and(|s| has_core_source(&s))
    {
        return Ok(Compiler::System { rustc, cargo });
    }
    bail!(
        "no compiler for BPF: neither a rustup nightly with the source of core nor a system rustc \
         with it\n  run `cargo xtask setup`, or `rustup toolchain install nightly --component rust-src`"
    )
}

fn nightly_sysroot() -> Option<PathBuf> {
    sysroot_of(Command::new("rustup").args(["run", "nightly", "rustc"]))
}

fn sysroot_of(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}

fn has_core_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .exists()
}

fn find_linker(root: &Path) -> Result<PathBuf> {
    let ours = tools_dir(root).join("bin");
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    std::iter::once(ours)
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .find(|candidate| candidate.exists())
        .context("no bpf-linker\n  run `cargo xtask setup`, or `cargo install bpf-linker`")
}
