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
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain));
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

/// The BPF instruction set of Linux 5.1: compares and computes with 32 bits at once.
const TARGET_CPU: &str = "target-cpu=v3";

/// Loads of words that are not aligned, which every header behind an Ethernet header needs;
/// otherwise they are put together byte by byte. The kernel allows it where the processor does.
const TARGET_FEATURE: &str = "target-feature=+allows-misaligned-mem-access";

/// The first LLVM with that feature.
const TARGET_FEATURE_LLVM: u32 = 22;

/// Flags for rustc, in the form in which a path may contain spaces.
fn flags(toolchain: &Toolchain) -> String {
    let linker = format!("linker={}", toolchain.linker.display());
    let mut codegen = vec![linker.as_str(), "link-arg=--btf", TARGET_CPU];
    if toolchain.compiler.llvm >= TARGET_FEATURE_LLVM {
        codegen.push(TARGET_FEATURE);
    }
    let mut flags: Vec<_> = codegen.into_iter().flat_map(|flag| ["-C", flag]).collect();
    if env::var_os("CI").is_some() {
        flags.extend(["-D", "warnings"]);
    }
    flags.join("\x1f")
}
