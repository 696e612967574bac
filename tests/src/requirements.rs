//! What a machine must have for the lab, or for a test in it.

use std::{env, path::PathBuf};

/// The program's path. Beyond `$PATH`, looks where Debian puts servers.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// The first of `programs` that is not installed, or that this user is not root, as a sentence.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let absent = programs.iter().find(|name| find_program(name).is_none())?;
    Some(format!("needs {absent}, which is not installed"))
}
