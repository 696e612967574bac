//! Certificates and keys in files: what is wrong with them is said, and what changes is followed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/authority.rs"]
mod authority;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use spectrum_user::{
    config::{self, App, AppDocument, Errors, TlsMode},
    tls::{Endpoint, Endpoints},
};
use tempfile::TempDir;

use authority::Authority;

/// An app whose certificate is in `mail.pem`, its key in `mail.key`.
fn app(directory: &Path, tables: &str) -> App {
    let document = format!(
        "dns = {{ name = \"mail.example.com\" }}\n\
         protocol = \"tcp/993\"\n\
         origin_direct = [\"tcp://192.0.2.1:993\"]\n\
         tls = \"strict\"\n\
         [client_tls]\n\
         certificates = [{{ chain = \"mail.pem\", key = \"mail.key\" }}]\n\
         {tables}"
    );
    let path = directory.join("mail.toml");
    fs::write(&path, document).unwrap();
    config::load_app(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn read(app: &App) -> Result<Endpoints, Errors> {
    Endpoints::read([app], &Endpoints::default())
}

/// A directory with `ca.pem`, `mail.pem` and `mail.key`.
fn stage() -> (TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&directory.path().join("ca.pem"));
    let signed = authority.sign(&["mail.example.com", "*.example.org"]);
    signed.write(directory.path(), "mail");
    (directory, authority)
}

const ORIGIN: &str = "[origin_tls]\nca = \"ca.pem\"\n";

fn only(endpoints: &Endpoints, app: &App) -> Arc<Endpoint> {
    endpoints.get(app.id).unwrap()
}

/// As often as the daemon looks until a change takes effect.
fn look(endpoints: &Endpoints) {
    endpoints.look();
    endpoints.look();
}

#[test]
fn fields_do_what_they_say_and_survive_being_written_back() {
    let (directory, _) = stage();
    let tables = "min_version = \"1.3\"\nunknown_names = \"refuse\"\nca = \"/etc/clients.pem\"\n\
                  [origin_tls]\nca = \"ca.pem\"\nserver_name = \"Mail.Internal\"\n\
                  fingerprints = [\"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\"]\n\
                  certificate = { chain = \"edge.pem\" }\n\
                  [timeouts]\nhandshake = \"3s\"\n";
    let app = app(directory.path(), tables);
    assert_eq!(app.tls_mode(), TlsMode::Strict);
    let tls = app.tls.clone().unwrap();
    assert_eq!(
        tls.client.certificates[0].key,
        directory.path().join("mail.key")
    );
    let origin = tls.origin.unwrap();
    assert_eq!(origin.server_name, "mail.internal");
    assert_eq!(
        origin.fingerprints[0].to_string(),
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    );
    let certificate = origin.certificate.unwrap();
    assert_eq!(certificate.key, certificate.chain);

    let written = toml::to_string(&AppDocument::from(&app)).unwrap();
    fs::write(&app.document, &written).unwrap();
    let again = config::load_app(&app.document).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again, app, "{written}");
}

/// Each mistake names the document, the field and the file, and says what to do; never the key.
#[test]
fn what_is_wrong_with_a_file_is_explained() {
    let (directory, authority) = stage();
    let path = |name: &str| directory.path().join(name);
    let app = app(directory.path(), ORIGIN);
    let another = authority.sign(&["mail.example.com"]);
    let pem = fs::read_to_string(path("mail.pem")).unwrap();
    let key = fs::read_to_string(path("mail.key")).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    let cases = [
        ("mail.key", another.key.serialize_pem(), "is not the key of"),
        ("mail.key", pem.clone(), "has no private key"),
        (
            "mail.key",
            key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            "has no private key",
        ),
        (
            "mail.key",
            format!("{}!!", &key[..80]),
            "has no private key",
        ),
        ("mail.pem", key.clone(), "has no certificate"),
        ("mail.pem", String::new(), "has no certificate"),
        ("mail.pem", pem[..200].to_owned(), "is no PEM"),
        ("ca.pem", "nothing".to_owned(), "has no certificate"),
    ];
    for (file, content, expected) in cases {
        let good = fs::read(path(file)).unwrap();
        fs::write(path(file), content).unwrap();
        let error = read(&app).map(drop).unwrap_err().to_string();
        let names = [expected, file, "mail.toml", "_tls.", "help: "];
        for name in names {
            assert!(error.contains(name), "no {name:?} in: {error}");
        }
        assert!(!error.contains(&secret), "{error}");
        fs::write(path(file), good).unwrap();
    }
    fs::remove_file(path("mail.key")).unwrap();
    let error = read(&app).map(drop).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn what_is_odd_about_a_file_is_a_warning() {
    let (directory, authority) = stage();
    let app = app(directory.path(), ORIGIN);
    assert_eq!(read(&app).unwrap().warnings(), Vec::<String>::new());
    let (_, key) = authority
        .sign_until(&["mail.example.com"], 2020)
        .write(directory.path(), "mail");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = read(&app).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("has expired (2020-01-01"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("everybody on this host can read"),
        "{warnings:?}"
    );
}

/// Who follows a warning, or an error about rights, need not touch the file besides.
#[test]
fn a_change_of_who_may_read_is_a_change() {
    let (directory, _authority) = stage();
    let app = app(directory.path(), ORIGIN);
    let endpoints = read(&app).unwrap();
    let endpoint = only(&endpoints, &app);
    let key = directory.path().join("mail.key");
    for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        look(&endpoints);
        let found = endpoint.status().warnings;
        assert_eq!(found.len(), warnings, "{mode:o}: {found:?}");
    }
}

/// A renewed certificate is taken over, a broken one is not, and nobody has to do anything.
#[test]
fn files_are_followed_and_the_last_good_ones_stay() {
    let (directory, authority) = stage();
    let app = app(directory.path(), ORIGIN);
    let endpoints = read(&app).unwrap();
    let endpoint = only(&endpoints, &app);
    let names = || endpoint.status().certificates[0].names.clone();
    assert_eq!(names(), ["mail.example.com", "*.example.org"]);
    let first = endpoint.terms();
    look(&endpoints);
    assert!(
        Arc::ptr_eq(&first, &endpoint.terms()),
        "nothing has changed"
    );

    let renewed = authority.sign(&["mail.example.com", "imap.example.com"]);
    // While the certificate is there already and its key is not, nothing happens.
    fs::write(directory.path().join("mail.pem"), renewed.certificate.pem()).unwrap();
    endpoints.look();
    renewed.write(directory.path(), "mail");
    look(&endpoints);
    assert_eq!(endpoint.status().error, None);
    assert_eq!(names(), ["mail.example.com", "imap.example.com"]);
    let second = endpoint.terms();
    assert!(!Arc::ptr_eq(&first, &second));

    fs::write(directory.path().join("mail.key"), "broken").unwrap();
    look(&endpoints);
    let error = endpoint.status().error.unwrap();
    assert!(error.contains("mail.key has no private key"), "{error}");
    assert!(Arc::ptr_eq(&second, &endpoint.terms()));
    // A reload of the documents does not lose it either.
    let reloaded = Endpoints::read([&app], &endpoints).unwrap();
    assert!(Arc::ptr_eq(&only(&reloaded, &app), &endpoint));

    renewed.write(directory.path(), "mail");
    look(&endpoints);
    assert_eq!(endpoint.status().error, None);
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let (directory, _) = stage();
    let app = app(directory.path(), ORIGIN);
    let endpoints = read(&app).unwrap();
    let names = only(&endpoints, &app).terms().names.clone();
    for (name, is_known) in [
        ("mail.example.com", true),
        ("MAIL.example.COM", true),
        ("www.example.org", true),
        ("a.b.example.org", false),
        ("example.org", false),
        (".example.org", false),
        ("", false),
        (".", false),
    ] {
        assert_eq!(names.has(name), is_known, "{name}");
    }
}
