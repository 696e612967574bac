//! `spectrum check` as scripts and people run it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output, Stdio},
};

const EXAMPLES: &str = "../examples/spectrum.toml";
const BROKEN: &str = "tests/config/errors/host_and_app_both_wrong";

fn spectrum(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spectrum"))
        .args(args)
        .env_remove("SPECTRUM_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_shows_what_would_be_served() {
    let output = spectrum(&["--config", EXAMPLES, "check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for expected in [
        "mc.example.com",
        "tcp/25565",
        "10.0.0.31:25565",
        "PROXY protocol v2",
        "reflectors enforce: 18 ports",
        "2001:db8::53",
    ] {
        assert!(table.contains(expected), "no {expected} in\n{table}");
    }
}

#[test]
fn check_explains_mistakes_on_stderr_and_fails() {
    let config = format!("{BROKEN}/spectrum.toml");
    let output = spectrum(&["check", "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let expected = fs::read_to_string(format!("{BROKEN}.txt")).unwrap();
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn check_tells_programs_what_would_be_served() {
    let output = spectrum(&["check", "-o", "json", "--config", EXAMPLES]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], true);
    assert_eq!(report["host"]["interfaces"][0], "eth0");
    let apps = report["apps"].as_array().unwrap();
    let ssh = apps
        .iter()
        .find(|app| app["dns"]["name"] == "ssh.example.com")
        .unwrap();
    assert_eq!(ssh["protocol"], "tcp/22");
    assert_eq!(ssh["document"], "../examples/apps.d/ssh.toml");
    assert_eq!(ssh["timeouts"]["idle"], "12h");
}

#[test]
fn check_tells_programs_what_is_wrong() {
    let config = format!("{BROKEN}/spectrum.toml");
    let output = spectrum(&["check", "-o", "json", "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0]["file"], format!("{BROKEN}/apps.d/ssh.toml"));
    assert_eq!(
        (&errors[0]["line"], &errors[0]["column"]),
        (&2.into(), &12.into())
    );
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for args in [
        &["frobnicate"][..],
        &["block", "10.0.0.1/8"],
        &["block", "192.0.2.7", "--for", "0s"],
        &["why", "192.0.2.0/24"],
        &["check", "-o", "yaml"],
    ] {
        let output = spectrum(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("error: "), "{args:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spectrum"))
        .args(["check", "-o", "json", "--config", EXAMPLES])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

/// What packages ship: completions for three shells, and a page for each command that `--help` has.
#[test]
fn generate_writes_a_page_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let output = spectrum(&["generate", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let names = |directory: &str, path: &std::path::Path| -> BTreeSet<String> {
        fs::read_dir(path.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let completions = ["_spectrum", "spectrum.bash", "spectrum.fish"];
    assert_eq!(
        names("completions", directory.path()),
        completions.map(str::to_owned).into()
    );
    let mut pages = BTreeSet::from(["spectrum.1".to_owned()]);
    let commands = "run drain upgrade check status block unblock allow why lists lists-refresh mitigations \
                    mitigations-accept mitigations-remove capture replay detach";
    pages.extend(commands.split(' ').map(|name| format!("spectrum-{name}.1")));
    assert_eq!(names("man", directory.path()), pages);
}
