//! What an operator, or a program of theirs, writes into a document.

use std::{cell::OnceCell, fs};

use spectrum_user::config::{self, AppDocument, Errors, HostDocument};
use tempfile::TempDir;

/// The document as a host and as an app.
pub fn run(text: &[u8]) {
    if let Err(errors) = with_document("spectrum.toml", text, config::load).map(|config| {
        let written = toml::to_string(&HostDocument::from(&config.host)).unwrap();
        let again = with_document("spectrum.toml", written.as_bytes(), config::load);
        assert_eq!(again.expect("we read what we write").host, config.host);
    }) {
        can_be_shown(&errors, text);
    }
    if let Err(errors) = with_document("app.toml", text, config::load_app).map(|app| {
        let written = toml::to_string(&AppDocument::from(&app)).unwrap();
        let again = with_document("app.toml", written.as_bytes(), config::load_app);
        assert_eq!(again.expect("we read what we write"), app);
    }) {
        can_be_shown(&errors, text);
    }
}

/// Every error is shown, at a place that the document has.
fn can_be_shown(errors: &Errors, text: &[u8]) {
    let findings = errors.findings();
    assert!(!findings.is_empty());
    assert!(!errors.render(true).is_empty());
    let shown = errors.render(false);
    let text = String::from_utf8_lossy(text);
    for finding in findings {
        // Of a message that quotes control characters, what comes before them: they are shown as
        // something harmless.
        let plain = finding.message.split(char::is_control).next().unwrap();
        assert!(shown.contains(plain), "{plain:?} is not in {shown}");
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
        let (Some(line), Some(column)) = (finding.line, finding.column) else {
            continue;
        };
        let in_line = text.split('\n').nth(line - 1).expect("a line of the text");
        assert!(column <= in_line.chars().count() + 1, "{line}:{column}");
    }
}

/// Reads a document of its own from a directory that has no other.
fn with_document<T>(
    name: &str,
    text: &[u8],
    read: impl Fn(&std::path::Path) -> Result<T, Errors>,
) -> Result<T, Errors> {
    thread_local! {
        static DIRECTORY: OnceCell<TempDir> = const { OnceCell::new() };
    }
    DIRECTORY.with(|directory| {
        let directory = directory.get_or_init(|| tempfile::tempdir().unwrap());
        fs::create_dir_all(directory.path().join("apps.d")).unwrap();
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path)
    })
}
