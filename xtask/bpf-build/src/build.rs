//! Runs the compiler.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";
const BINARY: &str = "spectrum-xdp";

/// Compiles `spectrum-ebpf` of the workspace at `root` and returns the path of the object.
///
/// The build has a target directory of its own (`<root>/target/bpf`): the caller may be a build
/// script that runs while cargo holds the lock of the usual one.
///
/// # Errors
/// The compiler does not start or does not succeed; its output has gone to stderr.
pub fn build_object(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let target_dir = root.join("target/bpf");
    let mut command = toolchain.compiler.kind.cargo();
    command
        .current_dir(root)
        .args(["build", "--locked", "--package", "spectrum-ebpf"])
        .args(["--bin", BINARY, "--features", "kernel"])
        .args(["--profile", PROFILE])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&toolchain.linker));
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!(
            "compiling spectrum-ebpf with {} and {} failed: {status}",
            toolchain.compiler.kind,
            toolchain.linker.display()
        );
    }
    Ok(target_dir.join(TARGET).join(PROFILE).join(BINARY))
}

/// Flags for rustc, in the form in which a path may contain spaces.
fn flags(linker: &Path) -> String {
    let linker = format!("linker={}", linker.display());
    let mut flags = vec!["-C", &linker, "-C", "link-arg=--btf"];
    if env::var_os("CI").is_some() {
        flags.extend(["-D", "warnings"]);
    }
    flags.join("\x1f")
}
