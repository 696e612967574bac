//! Kernels of Debian's, downloaded and unpacked but not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{setup::apt, shell};

pub(super) struct Kernel {
    /// As `uname -r` says.
    pub(super) release: String,
    pub(super) image: PathBuf,
}

/// The newest cloud kernel of a series, such as 6.1, unpacked below `directory`.
pub(super) fn fetch(series: &str, directory: &Path) -> Result<Kernel> {
    let package = newest(series)?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let image = directory.join(format!("boot/vmlinuz-{release}"));
    if !image.exists() {
        fs::create_dir_all(directory)?;
        let archive = apt::download(&package, directory)
            .context("the lists of packages may be old\n  help: `apt-get update` renews them")?;
        unpack(&archive, directory)?;
        fs::remove_file(archive)?;
    }
    ensure!(image.exists(), "{package} holds no {}", image.display());
    Ok(Kernel { release, image })
}

fn newest(series: &str) -> Result<String> {
    let prefix = format!("linux-image-{series}.");
    let mut packages = apt::names(&prefix)?;
    packages.retain(|name| name.ends_with("-cloud-amd64") && apt::has_candidate(name));
    packages.sort_by_key(|name| numbers(name));
    packages.pop().with_context(|| {
        format!(
            "apt knows no cloud kernel {series}\n  help: this is for Debian 12 with its security \
             updates; `apt-get update` renews the lists"
        )
    })
}

/// The numbers in a version, so that 6.1.0-9 comes before 6.1.0-10.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Unpacks what is in `boot`: without modules, the kernel has all that the tests need.
fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    let mut contents = Command::new("dpkg-deb");
    contents
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped());
    let mut contents = contents.spawn().context("cannot start dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "-C"]).arg(directory).arg("./boot");
    tar.stdin(contents.stdout.take().context("dpkg-deb has no output")?);
    let unpacked = shell::run(&mut tar);
    contents.wait()?;
    unpacked
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_newest_is_the_one_with_the_highest_numbers() {
        let [old, new] = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
        ];
        assert!(numbers(old) < numbers(new));
        let [old, new] = [
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.41+deb12-cloud-amd64",
        ];
        assert!(numbers(old) < numbers(new));
    }
}
