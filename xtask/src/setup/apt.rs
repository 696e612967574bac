//! Debian's and Ubuntu's packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::progress;
use crate::shell;

/// Whether we can install here.
pub(super) fn is_usable() -> bool {
    shell::is_root() && is_there()
}

fn is_there() -> bool {
    shell::find_program("apt-get").is_some()
}

/// How a user installs `packages` (names between spaces) where we cannot.
pub(super) fn by_hand(packages: &str) -> String {
    if is_there() {
        return format!("run `sudo apt-get install --no-install-recommends {packages}`");
    }
    "install them with the package manager of your distribution".to_owned()
}

/// Installs packages without their recommendations. Removes nothing: a package that conflicts with
/// one of the user's makes it fail.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if !packages.iter().all(|package| has_candidate(package)) {
        update()?;
    }
    if install_from_lists(packages).is_ok() {
        return Ok(());
    }
    // As a rule the lists are old, and name files that the mirror has replaced.
    update()?;
    install_from_lists(packages)
}

/// Fetches the lists of packages anew.
pub(super) fn update() -> Result<()> {
    let title = "setup: fetching the lists of packages";
    progress::run(title, apt_get().arg("update"))
}

/// Whether the lists name a version of this package that can be installed.
pub(crate) fn has_candidate(package: &str) -> bool {
    let mut policy = Command::new("apt-cache");
    policy.env("LC_ALL", "C").args(["policy", package]);
    shell::output(&mut policy).is_ok_and(|text| names_candidate(&text))
}

/// The packages in the lists whose names begin so.
pub(crate) fn names(prefix: &str) -> Result<Vec<String>> {
    let names = shell::output(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// The packages that an installation of `package` would bring, itself among them.
pub(crate) fn would_install(package: &str) -> Result<Vec<String>> {
    let mut simulated = apt_get();
    simulated
        .args(["--simulate", "install", "--no-install-recommends", package])
        .env("LC_ALL", "C");
    let said = shell::output(&mut simulated)
        .context("the lists of packages may be old\n  help: `apt-get update` renews them")?;
    // `Inst libslirp0 (4.7.0-1 Debian:12/oldstable [amd64])`
    let brought = said.lines().filter_map(|line| line.strip_prefix("Inst "));
    let names = brought.filter_map(|rest| rest.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// Downloads a package into `directory` without installing it, and returns the file.
pub(crate) fn download(package: &str, directory: &Path) -> Result<PathBuf> {
    // Not as the user `_apt`, who may not write there.
    let mut download = apt_get();
    download
        .args(["-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(directory);
    progress::run(&format!("downloading {package}"), &mut download)?;
    let files = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let of_package = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    };
    let mut paths = files.into_iter().map(|file| file.path());
    paths
        .find(of_package)
        .with_context(|| format!("apt-get has left no file of {package}"))
}

fn names_candidate(policy: &str) -> bool {
    let candidate = |line: &str| Some(line.trim().strip_prefix("Candidate: ")? != "(none)");
    policy.lines().find_map(candidate).unwrap_or(false)
}

fn install_from_lists(packages: &[&str]) -> Result<()> {
    let mut command = apt_get();
    command
        .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(packages)
        // A server that is installed for a test must not start serving on the host. Maintainer
        // scripts ask systemctl (which leaves PID 1 alone if so told) or, where there is no
        // systemd, the runlevel. `policy-rc.d` would do it too, but a killed setup would leave
        // that file behind, and with it a host on which no service ever starts.
        .env("SYSTEMD_OFFLINE", "1")
        .env("RUNLEVEL", "1");
    progress::run("setup: installing packages", &mut command)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "Dpkg::Use-Pty=0"])
        // Another apt may run, as at the first boot of a cloud machine.
        .args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Keeps a server that we have just installed from starting at the next boot. Where there is no
/// such service, or no init system at all, nothing has to be done.
pub(super) fn disable_service(name: &str) {
    let mut command = if shell::find_program("systemctl").is_some() {
        let mut command = Command::new("systemctl");
        command.args(["--quiet", "disable", name]);
        command
    } else {
        let mut command = Command::new("update-rc.d");
        command.args([name, "disable"]);
        command
    };
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        shell::say(&format!("  (no service {name} to disable at boot)"));
    }
}

#[cfg(test)]
mod tests {
    use super::names_candidate;

    /// Lists that lack a package must be fetched anew; otherwise installing fails on a fresh image.
    #[test]
    fn a_package_without_candidate_is_recognised() {
        let there = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        let virtual_only = "awk:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert!(names_candidate(there));
        assert!(!names_candidate(virtual_only));
        assert!(!names_candidate(""));
    }
}
