//! What to install where something is missing. Running it is left to `xtask`, which has a terminal.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{environment, tools_dir};

/// Debian's compiler, its cargo, and the source of `core`. They go to `/usr/bin` and leave rustup
/// alone.
pub const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The release of bpf-linker that we build.
const LINKER_VERSION: &str = "0.13.0";

/// The versions of LLVM that release can be built with.
pub const LINKER_LLVMS: RangeInclusive<u32> = 21..=23;

/// The Debian package with the headers and libraries of an LLVM; to be named, because only a
/// recommendation brings it otherwise.
pub fn llvm_package(llvm: u32) -> String {
    format!("llvm-{llvm}-dev")
}

/// Where that package puts them.
pub fn llvm_prefix(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

/// Where [`linker`] puts bpf-linker.
pub(crate) fn linker_dir(root: &Path) -> PathBuf {
    tools_dir(root).join("bin")
}

/// Where [`linker`] works; may be removed after it.
pub fn linker_build_dir(root: &Path) -> PathBuf {
    tools_dir(root).join("build")
}

/// Builds bpf-linker with that LLVM into `target/tools`, with the compiler of the host's code.
pub fn linker(root: &Path, llvm: u32) -> Command {
    let prefix = llvm_prefix(llvm);
    let mut command = Command::new("cargo");
    environment::forget_outer_cargo(&mut command);
    command
        .args(["install", &format!("bpf-linker@{LINKER_VERSION}")])
        .args(["--locked", "--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(tools_dir(root))
        .arg("--target-dir")
        .arg(linker_build_dir(root))
        // One for bpf-linker's own build script, one for that of llvm-sys 221, 231 and so on.
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix);
    command
}
