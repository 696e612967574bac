//! Running other programs, and speaking about it.
//!
//! What `xtask` itself says goes to stderr: stdout belongs to what it runs.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, Result, bail};

/// Prints a line for people.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// The directory of the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A cargo at the root of the workspace, as if the user had started it.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    bpf_build::forget_outer_cargo(&mut command);
    command.current_dir(root()).arg(subcommand);
    command
}

/// Prints the command, runs it, and waits.
///
/// # Errors
/// It does not start, or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    ensure_success(command, status)
}

/// Prints the command, runs it, waits, and leaves the judgement to the caller.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    say(&format!("$ {}", line(command)));
    command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))
}

/// Runs the command silently and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{said}", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no text", line(command)))
}

pub(crate) fn ensure_success(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(quoted).collect();
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The program's path. Beyond `$PATH`, looks where distributions put servers and what is for root.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{line, run};

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let error = run(&mut command).map_err(|error| error.to_string());
        let expected = "`sh -c 'exit 3'` failed: exit status: 3";
        assert_eq!(error, Err(expected.to_owned()));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("echo");
        command.args(["--a=/b", "it's", ""]);
        assert_eq!(line(&command), r"echo --a=/b 'it'\''s' ''");
    }
}
