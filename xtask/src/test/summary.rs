//! Reads what `cargo test` prints: cargo's own lines, those of libtest, libtest-mimic and rustdoc.
//!
//! The numbers are those of each runner's own result line, because the lines of single tests may
//! be torn by what tests print. Only names are taken from those, and from the list of failures.

use std::{fmt, mem};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// Names; where a runner gave none, its own.
    pub(super) failures: Vec<String>,
    pub(super) skips: Vec<String>,
}

impl Summary {
    pub(super) fn ran(&self) -> u64 {
        self.passed + self.failed
    }

    /// Something ran, and nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[derive(Debug, Default)]
pub(super) struct Parser {
    summary: Summary,
    runner: Option<Runner>,
}

/// A test binary, or rustdoc for one crate, while it runs.
#[derive(Debug, Default)]
struct Runner {
    name: String,
    has_result: bool,
    /// Names since the last result line; rustdoc may run several lists of tests.
    failures: Vec<String>,
    skips: Vec<String>,
    /// Names below the latest line `failures:`. There are several such lines, and tests may print
    /// one too, but the last one is the runner's list of names.
    listed: Option<Vec<String>>,
}

impl Parser {
    pub(super) fn read(&mut self, line: &str) {
        if let Some(name) = runner_started(line) {
            self.begin(name);
            return;
        }
        let Some(runner) = &mut self.runner else {
            return;
        };
        match TestResult::parse(line) {
            Some(result) => runner.add(result, &mut self.summary),
            None => runner.read(line),
        }
    }

    /// What comes now is of a runner with this name.
    pub(super) fn begin(&mut self, name: String) {
        self.runner_ended();
        self.runner = Some(Runner {
            name,
            ..Runner::default()
        });
    }

    pub(super) fn finish(mut self) -> Summary {
        self.runner_ended();
        self.summary
    }

    fn runner_ended(&mut self) {
        if let Some(Runner {
            name,
            has_result: false,
            ..
        }) = self.runner.take()
        {
            self.summary.failed += 1;
            self.summary
                .failures
                .push(format!("{name}: ended without a result"));
        }
    }
}

impl Runner {
    fn read(&mut self, line: &str) {
        if line == "failures:" {
            self.listed = Some(Vec::new());
        } else if let (Some(listed), Some(name)) = (&mut self.listed, line.strip_prefix("    ")) {
            listed.push(name.to_owned());
        }
        match outcome(line) {
            Some(Outcome::Failed(test)) => self.failures.push(test.to_owned()),
            Some(Outcome::Ignored(test)) => self.skips.push(test),
            None => {}
        }
    }

    fn add(&mut self, result: TestResult, summary: &mut Summary) {
        self.has_result = true;
        let name = &self.name;
        let mut failures = mem::take(&mut self.failures);
        let listed = self.listed.take().unwrap_or_default();
        failures.extend(listed);
        failures.sort_unstable();
        failures.dedup();
        if result.failed == 0 {
            failures.clear();
        }
        let nameless = result.failed.saturating_sub(failures.len() as u64);
        if nameless > 0 {
            failures.push(format!("{nameless} without a name"));
        }
        let full = |test: String| format!("{name}: {test}");
        summary.passed += result.passed;
        summary.failed += result.failed;
        summary.skipped += result.ignored;
        summary.failures.extend(failures.into_iter().map(full));
        summary.skips.extend(self.skips.drain(..).map(full));
    }
}

/// `     Running unittests src/lib.rs (target/debug/deps/spectrum_user-0123456789abcdef)` and
/// `   Doc-tests spectrum_user`.
fn runner_started(line: &str) -> Option<String> {
    let line = line.strip_prefix("   ")?.trim_start();
    if let Some(krate) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{krate} (documentation)"));
    }
    let (_, path) = line.strip_prefix("Running ")?.rsplit_once(" (")?;
    let binary = path.strip_suffix(')')?.rsplit('/').next()?;
    let (name, _hash) = binary.rsplit_once('-')?;
    Some(name.to_owned())
}

enum Outcome<'a> {
    Failed(&'a str),
    /// With the reason, if there is one.
    Ignored(String),
}

/// `test name ... FAILED`, `test name ... ignored, reason`; libtest-mimic pads the name, puts
/// `[kind]` before it, and writes `ignored (reason)`.
fn outcome(line: &str) -> Option<Outcome<'_>> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = match name.split_once("] ") {
        Some((kind, name)) if kind.starts_with('[') => name.trim(),
        _ => name.trim(),
    };
    if outcome == "FAILED" {
        return Some(Outcome::Failed(name));
    }
    let reason = outcome.strip_prefix("ignored")?;
    Some(Outcome::Ignored(match reason.strip_prefix(", ") {
        Some(reason) => format!("{name} ({reason})"),
        None => format!("{name}{reason}"),
    }))
}

struct TestResult {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl TestResult {
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn parse(line: &str) -> Option<Self> {
        // A test may have printed half a line before.
        let (_, result) = line.split_once("test result: ")?;
        let (_, counts) = result.split_once(". ")?;
        let count = |name: &str| {
            let field = counts
                .split("; ")
                .find_map(|field| field.strip_suffix(name))?;
            field.trim_end().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
        })
    }
}

#[cfg(test)]
mod tests;
