//! A run of libFuzzer, and what it says.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::shell;

/// Between two lines about how it goes.
const PACE: Duration = Duration::from_secs(10);

/// Lines shown again when something was found.
const TAIL: usize = 60;

/// A target that has run.
pub(super) struct Session {
    pub(super) target: String,
    pub(super) status: Status,
    /// Inputs that led somewhere new.
    pub(super) new_inputs: u64,
    /// The input that made it panic, hang or use too much memory.
    pub(super) finding: Option<PathBuf>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) executions: u64,
    pub(super) per_second: u64,
    /// Branches that some input takes.
    pub(super) coverage: u64,
}

/// Runs a fuzzer to its end, or to its first finding, and says now and then how it goes.
///
/// # Errors
/// It does not start, or it fails for another reason than a finding.
pub(super) fn run(target: &str, command: &mut Command) -> Result<Session> {
    shell::say(&format!("{target}: {}", shell::line(command)));
    let spawned = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot start {target}"))?;
    let mut session = Session {
        target: target.to_owned(),
        status: Status::default(),
        new_inputs: 0,
        finding: None,
    };
    let mut tail = VecDeque::new();
    let mut told = Instant::now();
    let said = child.stderr.take().context("a pipe was asked for")?;
    for line in BufReader::new(said).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        session.read(&line);
        if told.elapsed() >= PACE && line.starts_with('#') {
            told = Instant::now();
            let Status {
                executions,
                per_second,
                coverage,
            } = session.status;
            shell::say(&format!(
                "  {executions:>12} executions {per_second:>8}/s   coverage {coverage}"
            ));
        }
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let ended = child.wait()?;
    if !ended.success() {
        tail.iter().for_each(|line| shell::say(line));
        ensure!(session.finding.is_some(), "{target} failed: {ended}");
    }
    Ok(session)
}

impl Session {
    fn read(&mut self, line: &str) {
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.finding = Some(PathBuf::from(path));
        } else if let Some(statistic) = line.strip_prefix("stat::") {
            let (name, value) = statistic.split_once(':').unwrap_or_default();
            let value = value.trim().parse().unwrap_or_default();
            match name {
                "number_of_executed_units" => self.status.executions = value,
                "average_exec_per_sec" => self.status.per_second = value,
                "new_units_added" => self.new_inputs = value,
                _ => {}
            }
        } else if let Some(status) = Status::parse(line) {
            self.status = status;
        }
    }
}

impl Status {
    /// `#2738986  DONE   cov: 399 ft: 797 corp: 383/38Kb lim: 4096 exec/s: 210691 rss: 28Mb`
    fn parse(line: &str) -> Option<Self> {
        let executions = line.strip_prefix('#')?.split_whitespace().next()?;
        let field = |name: &str| {
            let mut words = line.split_whitespace();
            words.find(|word| *word == name)?;
            words.next()?.parse().ok()
        };
        Some(Self {
            executions: executions.parse().ok()?,
            per_second: field("exec/s:")?,
            coverage: field("cov:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::{Status, run};

    fn fake(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let line = "#274\tNEW    cov: 39 ft: 79 corp: 38/3Kb lim: 9 exec/s: 21 rss: 28Mb L: 3/7";
        let status = Status {
            executions: 274,
            per_second: 21,
            coverage: 39,
        };
        assert_eq!(Status::parse(line), Some(status));
        assert_eq!(Status::parse("INFO: Seed: 1"), None);
    }

    /// Otherwise CI would be green on a crash.
    #[test]
    fn a_finding_is_told_from_an_end_and_from_a_failure() {
        let found = "echo \"artifact_prefix='x/'; Test unit written to x/crash-1\" >&2; exit 77";
        let session = run("packet", &mut fake(found)).expect("it ran");
        assert_eq!(session.finding.as_deref(), Some(Path::new("x/crash-1")));
        let done = "echo 'stat::new_units_added: 7' >&2";
        let session = run("packet", &mut fake(done)).expect("it ran");
        assert_eq!((session.finding, session.new_inputs), (None, 7));
        assert!(run("packet", &mut fake("exit 1")).is_err());
    }
}
