//! A compiler and a linker for BPF.

use std::fs;

use anyhow::{Context as _, Result, bail};
use bpf_build::{Missing, install};

use super::{apt, progress};
use crate::shell;

/// Installs what is missing of the toolchain. A rustup nightly with `rust-src` is preferred where
/// there is one; otherwise Debian's compiler is installed, and rustup is left as it is.
///
/// # Errors
/// Something is missing and cannot be installed here; the error says how to get it.
pub(crate) fn ensure_toolchain() -> Result<()> {
    let Err(missing) = bpf_build::find(shell::root()) else {
        return Ok(());
    };
    match missing {
        Missing::Linker { ref llvms, .. } => match first_available(llvms) {
            Some(llvm) => install_linker(llvm)?,
            // Such as that of a nightly newer than any LLVM that the distribution has.
            None => install_system(missing)?,
        },
        Missing::Compiler(_) => install_system(missing)?,
        Missing::Probe { .. } => return Err(missing.into()),
    }
    bpf_build::find(shell::root()).context("the toolchain is installed, and yet does not work")?;
    Ok(())
}

/// The distribution's compiler and a linker for it.
fn install_system(missing: Missing) -> Result<()> {
    let packages = install::COMPILER_PACKAGES;
    if !apt::is_usable() {
        let by_hand = apt::by_hand(&packages.join(" "));
        bail!("{missing}\n  on Debian as root setup does it for you, or {by_hand}");
    }
    shell::say("setup: the XDP program needs a compiler that can build `core` for BPF");
    apt::install(&packages)?;
    let after = match bpf_build::find(shell::root()) {
        // Old lists name an old compiler.
        Err(Missing::Compiler(_)) => {
            apt::update()?;
            apt::install(&packages)?;
            bpf_build::find(shell::root())
        }
        after => after,
    };
    match after {
        Err(Missing::Linker { llvms, .. }) => {
            let llvm = first_available(&llvms)
                .with_context(|| format!("no package has the LLVM of {}", packages.join(" ")))?;
            install_linker(llvm)
        }
        after => after.map(drop).map_err(Into::into),
    }
}

/// The first LLVM with which a linker can be built here.
fn first_available(llvms: &[u32]) -> Option<u32> {
    let is_available = |llvm: &&u32| {
        let package = install::llvm_package(**llvm);
        install::LINKER_LLVMS.contains(llvm)
            && (has_llvm(**llvm) || apt::is_usable() && apt::has_candidate(&package))
    };
    llvms.iter().find(is_available).copied()
}

fn has_llvm(llvm: u32) -> bool {
    install::llvm_prefix(llvm).join("include/llvm-c").exists()
}

fn install_linker(llvm: u32) -> Result<()> {
    let root = shell::root();
    let mut packages = Vec::new();
    let llvm_package = install::llvm_package(llvm);
    if !has_llvm(llvm) {
        packages.push(llvm_package.as_str());
    }
    // rustc itself makes do with gcc.
    if shell::find_program("g++").is_none() {
        packages.push("g++");
    }
    if !packages.is_empty() && apt::is_usable() {
        shell::say(&format!(
            "setup: bpf-linker is built with the compiler's LLVM, {llvm}"
        ));
        apt::install(&packages)?;
    }
    let title = "setup: building bpf-linker into target/tools (about a minute)";
    progress::run(title, &mut install::linker(root, llvm))?;
    let leftovers = install::linker_build_dir(root);
    fs::remove_dir_all(&leftovers).with_context(|| format!("removing {}", leftovers.display()))
}
