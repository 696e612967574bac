//! Finds a compiler and a linker that fit each other.

use std::{
    env, fmt, fs, io, iter,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::{
    compiler::{self, Compiler, Rejected},
    install,
};

/// A compiler with the source of `core`, and a linker that reads its bitcode.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// What keeps `spectrum-ebpf` from being compiled. Printed, it says how to get it.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error(
        "no compiler can build `core` for BPF:{}\n  \
         run `cargo xtask setup`, or `rustup toolchain install nightly --component rust-src`",
        list(.0)
    )]
    Compiler(Vec<Rejected>),
    #[error(
        "no bpf-linker for LLVM {}{}\n  run `cargo xtask setup`, or put a bpf-linker with that \
         LLVM on PATH (`cargo binstall bpf-linker` gets a ready-made one)",
        either(llvms),
        beside(unfit)
    )]
    Linker {
        /// The LLVM of each compiler that would do, the preferred one first.
        llvms: Vec<u32>,
        /// Linkers that are there, but do not read those compilers' bitcode.
        unfit: Vec<PathBuf>,
    },
    #[error("cannot try the linker in {}", .directory.display())]
    Probe {
        directory: PathBuf,
        source: io::Error,
    },
}

/// Where tools that this project builds for itself live: `<root>/target/tools`.
pub fn tools_dir(root: &Path) -> PathBuf {
    root.join("target/tools")
}

/// Finds what is there, and changes nothing.
///
/// A linker built with an older LLVM than the compiler's cannot read its bitcode, and does not
/// tell its LLVM; so each is tried on a few lines, which takes a fifth of a second.
///
/// # Errors
/// What is missing, and how to get it.
pub fn find(root: &Path) -> Result<Toolchain, Missing> {
    let (compilers, rejected) = compiler::installed();
    if compilers.is_empty() {
        return Err(Missing::Compiler(rejected));
    }
    let linkers = installed_linkers(root);
    for compiler in &compilers {
        for linker in &linkers {
            if fit(root, compiler, linker)? {
                return Ok(Toolchain {
                    compiler: compiler.clone(),
                    linker: linker.clone(),
                });
            }
        }
    }
    Err(Missing::Linker {
        llvms: compilers.iter().map(|compiler| compiler.llvm).collect(),
        unfit: linkers,
    })
}

/// Ours first, then those on PATH.
fn installed_linkers(root: &Path) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut linkers: Vec<_> = iter::once(install::linker_dir(root))
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .filter(|candidate| candidate.is_file())
        .collect();
    linkers.dedup();
    linkers
}

fn fit(root: &Path, compiler: &Compiler, linker: &Path) -> Result<bool, Missing> {
    let probe = Probe::new(root).and_then(|probe| probe.links(compiler, linker));
    probe.map_err(|source| Missing::Probe {
        directory: tools_dir(root),
        source,
    })
}

/// A directory for one trial, removed with it.
struct Probe(PathBuf);

impl Probe {
    /// Touches what references, slices, options, loops and panics become: their attributes are
    /// what changes between versions of LLVM.
    const SOURCE: &str = "
        #![no_std]
        pub fn sum(values: &[u64; 64], skip: Option<&u64>) -> Result<u64, u32> {
            let mut sum = 0u64;
            for value in values.iter().filter(|value| Some(*value) != skip) {
                sum = sum.checked_add(*value).ok_or(1u32)?;
            }
            Ok(sum)
        }
        #[unsafe(no_mangle)]
        pub extern \"C\" fn entry(context: &[u64; 64]) -> u64 {
            let copy = core::hint::black_box(*context);
            sum(&copy, copy.first()).unwrap_or_default()
        }
    ";

    fn new(root: &Path) -> io::Result<Self> {
        let directory = tools_dir(root).join(format!("probe.{}", process::id()));
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }

    /// Whether `linker` makes a BPF object of what `compiler` emits.
    fn links(&self, compiler: &Compiler, linker: &Path) -> io::Result<bool> {
        let source = self.0.join("probe.rs");
        let bitcode = self.0.join("probe.bc");
        fs::write(&source, Self::SOURCE)?;
        let mut rustc = compiler.kind.rustc();
        // For the host, because it has a ready-made core: bitcode is the same for each target.
        rustc
            .args(["--edition=2024", "--crate-type=lib", "--emit=llvm-bc"])
            .args(["-Copt-level=3", "-Cpanic=abort", "-o"])
            .args([&bitcode, &source]);
        let mut link = Command::new(linker);
        link.arg("--emit=obj")
            .arg("-o")
            .args([&self.0.join("probe.o"), &bitcode]);
        Ok(succeeds(&mut rustc) && succeeds(&mut link))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // What remains is under `target/`, and written over by the next trial.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(|item| format!("\n  - {item}")).collect()
}

fn either(llvms: &[u32]) -> String {
    let llvms: Vec<_> = llvms.iter().map(u32::to_string).collect();
    llvms.join(" or ")
}

fn beside(linkers: &[PathBuf]) -> String {
    if linkers.is_empty() {
        return String::new();
    }
    let paths: Vec<_> = linkers.iter().map(|path| path.display()).collect();
    format!(
        "; these are for another LLVM, or do not start:{}",
        list(&paths)
    )
}

#[cfg(test)]
mod tests {
    use super::Missing;

    /// Whoever sees it must know what to type next.
    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let linker = Missing::Linker {
            llvms: vec![23, 22],
            unfit: vec!["/opt/bin/bpf-linker".into()],
        };
        let text = linker.to_string();
        assert!(
            text.contains("LLVM 23 or 22; these are for another LLVM"),
            "{text}"
        );
        assert!(text.contains("\n  - /opt/bin/bpf-linker\n"), "{text}");
        for missing in [linker, Missing::Compiler(Vec::new())] {
            assert!(missing.to_string().contains("run `cargo xtask setup`"));
        }
    }
}
