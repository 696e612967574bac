//! A long command, followed by the user: its last line beside a spinner on a terminal, every line
//! where there is none.

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::shell;

/// Lines shown again when the command has failed and the spinner has hidden them.
const TAIL: usize = 40;

/// Runs `command`, which does `title`.
///
/// # Errors
/// It does not start, or does not succeed; what it said is on stderr.
pub(super) fn run(title: &str, command: &mut Command) -> Result<()> {
    let line = shell::line(command);
    shell::say(&format!("{title}\n$ {line}"));
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let spawned = command.spawn();
    // The command holds the writing end until it is given another one.
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let mut child = spawned.with_context(|| format!("cannot start `{line}`"))?;

    let spinner = io::stderr().is_terminal().then(spinner).transpose()?;
    let mut lines = Vec::new();
    for said in BufReader::new(reader).split(b'\n') {
        let said = String::from_utf8_lossy(&said?).trim_end().to_owned();
        match &spinner {
            Some(spinner) => spinner.set_message(said.trim_start().to_owned()),
            None => shell::say(&format!("  {said}")),
        }
        lines.push(said);
    }
    let status = child.wait()?;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
        if !status.success() {
            let hidden = lines.len().saturating_sub(TAIL);
            lines.iter().skip(hidden).for_each(|said| shell::say(said));
        }
    }
    shell::ensure_success(command, status)
}

fn spinner() -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {spinner} {elapsed:>4} {wide_msg:.dim}")?;
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(Duration::from_millis(100));
    Ok(spinner)
}
