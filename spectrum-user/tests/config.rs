//! What an operator sees who made a mistake in a document: exactly, for each mistake.
//!
//! A case in `tests/config/errors` is a document of an app (`case.toml`) or a whole configuration
//! (`case/spectrum.toml`), with what is printed beside it (`case.txt`). `SPECTRUM_BLESS=1` writes
//! what is printed now; read the difference before you commit it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use spectrum_user::config::{self, Errors};

/// Relative to the package, which is where cargo runs tests, so that the paths in the expected
/// texts are the same on every machine.
const CASES: &str = "tests/config/errors";

#[test]
fn every_mistake_is_explained() {
    let bless = env::var_os("SPECTRUM_BLESS").is_some();
    let mut failures = String::new();
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases found", cases.len());
    for case in cases {
        let printed = match errors(&case) {
            Some(errors) => format!("{errors}\n"),
            None => "accepted\n".to_owned(),
        };
        let expected_path = case.with_extension("txt");
        if bless {
            fs::write(&expected_path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        let has_remedies = printed.matches("help: ").count() == printed.matches("error: ").count();
        if printed != expected || expected == "accepted\n" || !has_remedies {
            let case = case.display();
            writeln!(
                failures,
                "== {case}\n-- expected\n{expected}-- printed\n{printed}"
            )
            .unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(CASES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|ending| ending != "txt"))
        .collect();
    cases.sort();
    cases
}

fn errors(case: &Path) -> Option<Errors> {
    if case.is_dir() {
        config::load(&case.join("spectrum.toml")).err()
    } else {
        config::load_app(case).err()
    }
}
