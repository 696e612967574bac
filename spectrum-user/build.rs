//! Builds the XDP program, which the library embeds.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// Names a ready-made object to embed instead, for packagers who build the two halves apart.
const PREBUILT: &str = "SPECTRUM_BPF_OBJECT";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={PREBUILT}");
    let object = match env::var_os(PREBUILT) {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env={PREBUILT}={}", object.display());
    Ok(())
}

fn build() -> Result<PathBuf> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("not started by cargo")?);
    let root = here.parent().context("the crate lies in the workspace")?;
    for source in [
        "spectrum-ebpf/src",
        "spectrum-common/src",
        "spectrum-ebpf/Cargo.toml",
        "Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    bpf_build::build_object(root, &bpf_build::find(root)?)
}
