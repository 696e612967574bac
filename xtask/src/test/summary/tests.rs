//! Each sample is what `cargo test` printed.

use super::{Parser, Summary};

/// One crate with libtest, libtest-mimic and rustdoc, in which a test prints what looks like the
/// runner's own lines, and a runner aborts.
const FAILING: &str = include_str!("samples/failing.txt");

/// With `--nocapture` the lines of single tests are torn.
const TORN: &str = "     Running unittests src/lib.rs (target/debug/deps/sample-65aa66ca09e81442)

running 3 tests
test tests::bad ... in the test
thread 'tests::bad' (22537) panicked at src/lib.rs:19:43:
no
FAILED
test tests::good ... ok
test tests::skipped ... ignored, needs root

failures:

failures:
    tests::bad

half a linetest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

/// The filter matches nothing.
const NOTHING: &str =
    "     Running tests/e2e/main.rs (/elsewhere/target/debug/deps/e2e-2f5d6cdb784a463a)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 12 filtered out; finished in 0.00s
";

fn parse(text: &str) -> Summary {
    let mut parser = Parser::default();
    text.lines().for_each(|line| parser.read(line));
    parser.finish()
}

#[test]
fn every_runner_is_counted_and_every_failure_named() {
    let summary = parse(FAILING);
    let expected = Summary {
        passed: 7,
        failed: 3,
        skipped: 4,
        failures: vec![
            "sample: tests::bad".to_owned(),
            "abort: ended without a result".to_owned(),
            "mimic: ssh: a file of 50 MB".to_owned(),
        ],
        skips: vec![
            "sample: tests::skipped (needs root)".to_owned(),
            "sample: tests::skipped_silently".to_owned(),
            "mimic: unprivileged (needs root)".to_owned(),
            "sample (documentation): src/lib.rs - one (line 7)".to_owned(),
        ],
    };
    assert_eq!(summary, expected);
    assert_eq!(summary.to_string(), "7 passed, 3 failed, 4 skipped");
}

#[test]
fn a_torn_line_does_not_hide_a_failure() {
    let summary = parse(TORN);
    assert_eq!(summary.to_string(), "1 passed, 1 failed, 1 skipped");
    assert_eq!(summary.failures, ["sample: tests::bad"]);
}

/// Otherwise a wrong filter, or a runner that is gone, would look like success.
#[test]
fn that_nothing_ran_is_seen() {
    assert_eq!(parse(NOTHING).ran(), 0);
    assert_eq!(parse("error: could not compile `spectrum-user`\n").ran(), 0);
}

#[test]
fn a_runner_that_ends_early_is_a_failure() {
    let (whole, _) = TORN.split_once("half a line").unwrap_or_default();
    let summary = parse(whole);
    assert_eq!(summary.to_string(), "0 passed, 1 failed, 0 skipped");
    assert_eq!(summary.failures, ["sample: ended without a result"]);
}
