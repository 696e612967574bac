//! Certificates and keys, as files have them.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    crypto::ring::Ticketer,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use super::{Names, provider, versions};
use crate::config::{ClientTls, KeyPair};

/// The permission of everybody to read.
const READABLE_BY_ALL: u32 = 0o004;

/// Something that is wrong with a file.
#[derive(Debug)]
pub(super) struct Flaw {
    field: String,
    what: String,
    pub(super) help: String,
}

impl Flaw {
    pub(super) fn new(
        field: impl Into<String>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            what: what.into(),
            help: help.into(),
        }
    }

    fn in_file(field: impl Into<String>, file: &Path, what: &str, help: impl Into<String>) -> Self {
        Self::new(field, format!("{} {what}", file.display()), help)
    }

    fn unreadable(field: &str, file: &Path, error: &io::Error) -> Self {
        let what = format!("cannot be read: {error}");
        // The daemon has given up root's right to read whatever it likes.
        let help = "it has to be a file that the daemon may read by its owner or group";
        Self::in_file(field, file, &what, help)
    }

    /// On one line.
    pub(super) fn with_help(&self) -> String {
        format!("{self} ({})", self.help)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.what)
    }
}

/// A certificate with its key.
pub(super) struct Identity {
    pub(super) chain: PathBuf,
    /// In lower case.
    pub(super) names: Vec<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) key: Arc<CertifiedKey>,
}

/// All that can be read.
pub(super) fn identities(
    pairs: &[KeyPair],
    flaws: &mut Vec<Flaw>,
    warnings: &mut Vec<String>,
) -> Vec<Identity> {
    let mut identities = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let field = format!("client_tls.certificates[{index}]");
        match identity(&field, pair, warnings) {
            Ok(identity) => identities.push(identity),
            Err(flaw) => flaws.push(flaw),
        }
    }
    identities
}

pub(super) fn identity(
    field: &str,
    pair: &KeyPair,
    warnings: &mut Vec<String>,
) -> Result<Identity, Flaw> {
    let KeyPair { chain, key } = pair;
    let (of_chain, of_key) = (format!("{field}.chain"), format!("{field}.key"));
    let certificates = certificates(&of_chain, chain)?;
    let Some(leaf) = certificates.first() else {
        let help = "expected `-----BEGIN CERTIFICATE-----`, the server's own certificate first";
        return Err(Flaw::in_file(of_chain, chain, "has no certificate", help));
    };
    let about = About::read(leaf).ok_or_else(|| {
        let help = "expected an X.509 certificate in PEM";
        Flaw::in_file(&of_chain, chain, "is no certificate", help)
    })?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        let pem::Error::Io(error) = error else {
            // What a parser says of a key might quote it.
            let help = "expected an unencrypted private key in PEM (`-----BEGIN PRIVATE KEY-----`)";
            return Flaw::in_file(&of_key, key, "has no private key", help);
        };
        Flaw::unreadable(&of_key, key, &error)
    })?;
    let certified = CertifiedKey::from_der(certificates, private, &provider());
    let certified = certified.map_err(|error| {
        if error == InconsistentKeys::KeyMismatch.into() {
            let what = format!("is not the key of {}", chain.display());
            let help = "give the key with which this certificate was requested; \
                        a renewed certificate often comes with a new key";
            return Flaw::in_file(&of_key, key, &what, help);
        }
        let help = "expected an RSA key of 2048 bits or more, ECDSA (P-256, P-384) or Ed25519";
        Flaw::in_file(&of_key, key, "has a key that cannot be used", help)
    })?;
    warn(chain, key, &about, warnings);
    Ok(Identity {
        chain: chain.clone(),
        names: about.names,
        expires: about.expires,
        key: Arc::new(certified),
    })
}

fn warn(chain: &Path, key: &Path, about: &About, warnings: &mut Vec<String>) {
    let now = Timestamp::now();
    let file = chain.display();
    if let Some(expired) = about.expires.filter(|expires| *expires < now) {
        warnings.push(format!("{file} has expired ({expired}): renew it"));
    }
    if let Some(begins) = about.begins.filter(|begins| *begins > now) {
        warnings.push(format!("{file} is not valid before {begins}"));
    }
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & READABLE_BY_ALL != 0) {
        let key = key.display();
        warnings.push(format!(
            "everybody on this host can read the key {key}: `chmod o= {key}`"
        ));
    }
}

/// What is of interest in a certificate.
struct About {
    names: Vec<String>,
    begins: Option<Timestamp>,
    expires: Option<Timestamp>,
}

impl About {
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|found| found.value.general_names.as_slice());
        let names = alternatives.unwrap_or_default().iter();
        let names = names.filter_map(|name| {
            let GeneralName::DNSName(name) = name else {
                return None;
            };
            Some(name.to_ascii_lowercase())
        });
        let time = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self {
            names: names.collect(),
            begins: time(parsed.validity().not_before.timestamp()),
            expires: time(parsed.validity().not_after.timestamp()),
        })
    }
}

/// The authorities in a file.
pub(super) fn roots(field: &str, file: &Path) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(field, file)?);
    if roots.is_empty() {
        let help = "expected the certificates of authorities in PEM";
        return Err(Flaw::in_file(field, file, "has no certificate", help));
    }
    Ok(roots)
}

fn certificates(field: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| {
        let pem::Error::Io(error) = error else {
            let help = "expected `-----BEGIN CERTIFICATE-----` and what follows, unchanged";
            return Flaw::in_file(field, file, "is no PEM", help);
        };
        Flaw::unreadable(field, file, &error)
    })
}

/// `None` if there are flaws.
pub(super) fn server_config(
    tls: &ClientTls,
    names: Arc<Names>,
    roots: Option<RootCertStore>,
    flaws: &mut Vec<Flaw>,
) -> Option<ServerConfig> {
    let built = || -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| error.to_string())?;
        let builder = match roots {
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = verifier.build().map_err(|error| error.to_string())?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(names);
        config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into()).collect();
        // Who comes back shakes hands without a signature; the tickets hold until the next reading.
        config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        Ok(config)
    };
    let help = "check the files that it names";
    built()
        .map_err(|error| flaws.push(Flaw::new("client_tls", error, help)))
        .ok()
}
