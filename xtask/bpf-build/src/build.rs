//! Runs the compiler.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{Compiler, Toolchain};

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
    let mut command = cargo(toolchain)?;
    command
        .current_dir(root)
        .args(["build", "--locked", "--package", "spectrum-ebpf"])
        .args([
            "--bin",
            BINARY,
            "--features",
            "kernel",
            "--profile",
            PROFILE,
        ])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env(
            "RUSTFLAGS",
            format!("-C linker={} -C link-arg=--btf", toolchain.linker.display()),
        );
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("compiling spectrum-ebpf failed: {status}");
    }
    Ok(target_dir.join(TARGET).join(PROFILE).join(BINARY))
}

/// A cargo that runs the toolchain's compiler, whatever cargo we were started by.
fn cargo(toolchain: &Toolchain) -> Result<Command> {
    let mut command = match &toolchain.compiler {
        Compiler::RustupNightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
        Compiler::System { cargo, .. } => Command::new(cargo),
    };
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text.starts_with("RUSTUP_TOOLCHAIN")
            || matches!(
                &*text,
                "CARGO"
                    | "RUSTC"
                    | "RUSTDOC"
                    | "RUSTFLAGS"
                    | "RUSTC_WRAPPER"
                    | "RUSTC_WORKSPACE_WRAPPER"
            );
        if inherited {
            command.env_remove(&name);
        }
    }
    if let Compiler::System { rustc, .. } = &toolchain.compiler {
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(command)
}
