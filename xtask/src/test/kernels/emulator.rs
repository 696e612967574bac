//! The emulator: the one of this machine, or Debian's, unpacked beside the kernels but not installed. (An
//! emulator has many dependencies, and one of them may not go with what the machine has.)

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{setup::apt, shell};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

pub(super) struct Emulator {
    program: PathBuf,
    /// Where it was unpacked, if it was.
    root: Option<PathBuf>,
}

impl Emulator {
    /// Unpacks it below `directory`, unless this machine or that directory has it.
    pub(super) fn fetch(directory: &Path) -> Result<Self> {
        if let Some(program) = shell::find_program(PROGRAM) {
            return Ok(Self {
                program,
                root: None,
            });
        }
        let root = directory.join("emulator");
        if !root.is_dir() {
            // Whole, or not at all.
            let draft = directory.join("emulator.draft");
            unpack(&draft)?;
            fs::rename(&draft, &root)?;
        }
        let program = root.join("usr/bin").join(PROGRAM);
        ensure!(program.exists(), "{PACKAGE} holds no {}", program.display());
        Ok(Self {
            program,
            root: Some(root),
        })
    }

    /// Appends the program to the command line of another, which runs it.
    pub(super) fn append_to(&self, command: &mut Command) -> Result<()> {
        command.arg(&self.program);
        let Some(root) = &self.root else {
            return Ok(());
        };
        command.env("LD_LIBRARY_PATH", libraries(root)?);
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(root.join(data));
        }
        Ok(())
    }
}

fn libraries(root: &Path) -> Result<OsString> {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let below = ["usr/lib", "lib"].map(|library| root.join(library).join(&triplet));
    Ok(env::join_paths(below)?)
}

fn unpack(root: &Path) -> Result<()> {
    let parts = root.with_extension("packages");
    for directory in [root, &parts] {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
    }
    for package in apt::would_install(PACKAGE)? {
        let archive = apt::download(&package, &parts)
            .context("the lists of packages may be old\n  help: `apt-get update` renews them")?;
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(&archive).arg(root);
        shell::output(&mut extract)?;
    }
    Ok(fs::remove_dir_all(parts)?)
}
