//! Which compilers are there, and whether one can build `core` for BPF.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::environment;

/// A compiler that can build `core` for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) kind: Kind,
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `rustup run nightly`, with the component `rust-src`.
    RustupNightly,
    /// The distribution's own rustc and cargo, with the source of `core` beside them; unstable
    /// options are unlocked by `RUSTC_BOOTSTRAP`.
    System,
}

/// Why a compiler will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct Rejected {
    kind: Kind,
    reason: String,
}

/// The compilers that will do, the preferred one first, and why the others will not.
pub(crate) fn installed() -> (Vec<Compiler>, Vec<Rejected>) {
    let mut compilers = Vec::new();
    let mut rejected = Vec::new();
    for kind in [Kind::RustupNightly, Kind::System] {
        match inspect(&kind) {
            Ok(llvm) => compilers.push(Compiler { kind, llvm }),
            Err(reason) => rejected.push(Rejected { kind, reason }),
        }
    }
    (compilers, rejected)
}

/// The major version of the compiler's LLVM, or why it will not do.
fn inspect(kind: &Kind) -> Result<u32, String> {
    let answer = |argument: &str| {
        let output = kind.rustc().arg(argument).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    };
    let version = answer("-vV").ok_or("not installed")?;
    let version = Version::parse(&version).ok_or("`rustc -vV` says nothing of a version")?;
    let needed = Version::minor_of(env!("CARGO_PKG_RUST_VERSION")).unwrap_or_default();
    if version.minor < needed {
        let found = version.minor;
        return Err(format!("it is 1.{found}, and 1.{needed} is needed"));
    }
    let sysroot = answer("--print=sysroot").ok_or("`rustc --print=sysroot` fails")?;
    let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
    if !Path::new(sysroot.trim()).join(core).exists() {
        return Err("it lacks the source of core".to_owned());
    }
    if *kind == Kind::System && !system("cargo").exists() {
        return Err("its cargo is not installed".to_owned());
    }
    Ok(version.llvm)
}

impl Kind {
    pub(crate) fn rustc(&self) -> Command {
        let mut command = match self {
            Self::RustupNightly => rustup_nightly("rustc"),
            Self::System => Command::new(system("rustc")),
        };
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// A cargo that runs this compiler, whatever cargo we were started by.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::RustupNightly => rustup_nightly("cargo"),
            Self::System => Command::new(system("cargo")),
        };
        environment::forget_host_settings(&mut command);
        if *self == Self::System {
            command
                .env("RUSTC", system("rustc"))
                .env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RustupNightly => write!(f, "rustup's nightly"),
            Self::System => write!(f, "{}", system("rustc").display()),
        }
    }
}

fn rustup_nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    command
}

/// Where distributions put their own; a `rustc` on PATH is as a rule rustup's.
fn system(program: &str) -> PathBuf {
    Path::new("/usr/bin").join(program)
}

#[derive(Debug, PartialEq, Eq)]
struct Version {
    /// 95 of 1.95.0.
    minor: u32,
    /// 22 of 22.1.8.
    llvm: u32,
}

impl Version {
    /// Reads what `rustc -vV` prints.
    fn parse(text: &str) -> Option<Self> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let llvm = field("LLVM version: ")?.split('.').next()?;
        Some(Self {
            minor: Self::minor_of(field("release: ")?)?,
            llvm: llvm.parse().ok()?,
        })
    }

    fn minor_of(release: &str) -> Option<u32> {
        release.strip_prefix("1.")?.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn rustcs_description_of_itself_is_understood() {
        let debian = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
            binary: rustc\ncommit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\n\
            commit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
            LLVM version: 22.1.8\n";
        let nightly = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
            host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        let old = "rustc 1.63.0\nbinary: rustc\nrelease: 1.63.0\nLLVM version: 14.0.6\n";
        for (text, minor, llvm) in [(debian, 96, 22), (nightly, 97, 22), (old, 63, 14)] {
            assert_eq!(Version::parse(text), Some(Version { minor, llvm }));
        }
    }

    #[test]
    fn something_else_is_no_version() {
        for text in [
            "",
            "rustc 1.96.0\n",
            "release: 2.0.0\nLLVM version: 22.1.8\n",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    /// The workspace's own demand must be readable, or any compiler would do.
    #[test]
    fn the_version_that_is_needed_is_known() {
        assert!(Version::minor_of(env!("CARGO_PKG_RUST_VERSION")).is_some_and(|minor| minor >= 95));
    }
}
