//! TLS: certificates and keys of files become what handshakes need, and what is in use follows the
//! files.
//!
//! Knows no sockets: the proxy takes the [`Terms`] of the moment for each connection. A file that
//! cannot be used changes nothing: what was read of it last stays.

mod files;
mod names;
mod origin;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{App, AppId, Errors, Tls, TlsVersion},
    edition::Edition,
};
use files::Flaw;
pub use names::Names;
pub use origin::fingerprint;

/// How often the files are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the log is told that an origin fails.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

/// What all apps of a configuration have of TLS.
#[derive(Clone, Default)]
pub struct Endpoints {
    by_app: BTreeMap<AppId, Arc<Endpoint>>,
}

/// What one app has of TLS. Its files are followed.
pub struct Endpoint {
    app: String,
    tls: Tls,
    terms: ArcSwap<Terms>,
    files: Mutex<Files>,
    /// When the log was last told of a failure of an origin.
    complained: Mutex<Option<Instant>>,
}

/// What connections of an app agree on.
pub struct Terms {
    pub client: Arc<ServerConfig>,
    /// The names of the certificates.
    pub names: Arc<Names>,
    /// `None`: plain.
    pub origin: Option<OriginTerms>,
}

pub struct OriginTerms {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

/// The files behind an endpoint.
struct Files {
    /// As they were when they were read last, whether that was of use or not.
    read: Editions,
    /// As they were when they were looked at last.
    seen: Editions,
    status: EndpointStatus,
}

type Editions = BTreeMap<PathBuf, Option<Edition>>;

/// What is known of an app's certificates, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// As in the document: `flexible`, `full` or `strict`.
    pub mode: String,
    /// Those that clients are shown.
    pub certificates: Vec<CertificateStatus>,
    /// Since when they are in use.
    pub read: Timestamp,
    /// What is not as it should be, though it works.
    pub warnings: Vec<String>,
    /// Why the files as they are now cannot be used; absent if they can.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub chain: PathBuf,
    /// The names that it is for.
    pub names: Vec<String>,
    pub expires: Option<Timestamp>,
}

impl EndpointStatus {
    /// Has one of the certificates expired since they were read? That is worth another warning.
    fn has_outlived_a_certificate(&self) -> bool {
        let now = Timestamp::now();
        let mut ends = self.certificates.iter().filter_map(|one| one.expires);
        self.error.is_none() && ends.any(|end| self.read < end && end < now)
    }
}

impl Endpoints {
    /// Reads the files of `apps`; an endpoint of `previous` with the same settings goes on as it is.
    /// Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn read<'a>(
        apps: impl IntoIterator<Item = &'a App>,
        previous: &Self,
    ) -> Result<Self, Errors> {
        let mut by_app = BTreeMap::new();
        let mut flaws = Vec::new();
        for app in apps {
            let Some(tls) = &app.tls else { continue };
            let known = previous.by_app.get(&app.id);
            if let Some(known) = known.filter(|known| known.tls == *tls && known.app == app.name) {
                by_app.insert(app.id, Arc::clone(known));
                continue;
            }
            match Endpoint::read(&app.name, tls) {
                Ok(endpoint) => {
                    by_app.insert(app.id, Arc::new(endpoint));
                }
                Err(found) => {
                    let document = app.document.display();
                    let found = found.into_iter();
                    flaws.extend(found.map(|flaw| (format!("{document}: {flaw}"), flaw.help)));
                }
            }
        }
        if flaws.is_empty() {
            Ok(Self { by_app })
        } else {
            Err(Errors::in_files(flaws))
        }
    }

    pub fn get(&self, app: AppId) -> Option<Arc<Endpoint>> {
        self.by_app.get(&app).cloned()
    }

    /// Takes over files that have changed. Blocks.
    pub fn look(&self) {
        self.by_app.values().for_each(|endpoint| endpoint.look());
    }

    pub fn is_empty(&self) -> bool {
        self.by_app.is_empty()
    }

    /// What is not as it should be, though it works; one line each.
    pub fn warnings(&self) -> Vec<String> {
        let of_endpoint = |endpoint: &Arc<Endpoint>| {
            let warnings = endpoint.status().warnings.into_iter();
            let app = endpoint.app.clone();
            warnings.map(move |warning| format!("{app}: {warning}"))
        };
        self.by_app.values().flat_map(of_endpoint).collect()
    }
}

impl Endpoint {
    fn read(app: &str, tls: &Tls) -> Result<Self, Vec<Flaw>> {
        let editions = editions(tls);
        let (terms, status) = read_terms(tls)?;
        Ok(Self {
            app: app.to_owned(),
            tls: tls.clone(),
            terms: ArcSwap::from_pointee(terms),
            files: Mutex::new(Files {
                read: editions.clone(),
                seen: editions,
                status,
            }),
            complained: Mutex::default(),
        })
    }

    /// Tells the log why an origin and the edge do not agree; not for each connection.
    pub fn complain_of_origin(&self, error: &io::Error) {
        let mut last = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            *last = Some(Instant::now());
            log::warn!("{}: TLS handshake with an origin: {error}", self.app);
        }
    }

    /// What holds for a connection that begins now.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    pub fn status(&self) -> EndpointStatus {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.status.clone()
    }

    /// A certificate and its key are two files: they are read once neither has changed for one look.
    fn look(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = editions(&self.tls);
        let has_settled = files.seen == now;
        files.seen.clone_from(&now);
        let is_new = files.read != now || files.status.has_outlived_a_certificate();
        if !has_settled || !is_new {
            return;
        }
        files.read = now;
        match read_terms(&self.tls) {
            Ok((terms, status)) => {
                self.terms.store(Arc::new(terms));
                log::info!("{}: certificates read again", self.app);
                for warning in &status.warnings {
                    log::warn!("{}: {warning}", self.app);
                }
                files.status = status;
            }
            Err(flaws) => {
                let flaws: Vec<String> = flaws.iter().map(Flaw::with_help).collect();
                let error = flaws.join("; ");
                log::error!(
                    "{}: {error}; the certificates read last stay in use",
                    self.app
                );
                files.status.error = Some(error);
            }
        }
    }
}

fn editions(tls: &Tls) -> Editions {
    let client = &tls.client;
    let pairs = client.certificates.iter();
    let origin = tls.origin.as_ref();
    let pairs = pairs.chain(origin.and_then(|origin| origin.certificate.as_ref()));
    let mut paths: BTreeSet<&Path> = pairs
        .flat_map(|pair| [pair.chain.as_path(), pair.key.as_path()])
        .collect();
    paths.extend(client.ca.as_deref());
    paths.extend(origin.and_then(|origin| origin.ca.as_deref()));
    let editions = paths.into_iter();
    editions
        .map(|path| (path.to_owned(), Edition::of(path).ok()))
        .collect()
}

/// What the files of the moment say.
fn read_terms(tls: &Tls) -> Result<(Terms, EndpointStatus), Vec<Flaw>> {
    let mut flaws = Vec::new();
    let mut warnings = Vec::new();
    let identities = files::identities(&tls.client.certificates, &mut flaws, &mut warnings);
    let client_roots = tls
        .client
        .ca
        .as_ref()
        .map(|ca| files::roots("client_tls.ca", ca));
    let origin = tls.origin.as_ref();
    let origin = origin.and_then(|origin| origin::terms(origin, &mut flaws, &mut warnings));
    let certificates = identities.iter().map(|identity| CertificateStatus {
        chain: identity.chain.clone(),
        names: identity.names.clone(),
        expires: identity.expires,
    });
    let certificates = certificates.collect();
    let names = Arc::new(Names::new(identities));
    let client = match client_roots.transpose() {
        Ok(roots) => files::server_config(&tls.client, Arc::clone(&names), roots, &mut flaws),
        Err(flaw) => {
            flaws.push(flaw);
            None
        }
    };
    match client {
        Some(client) if flaws.is_empty() => Ok((
            Terms {
                client: Arc::new(client),
                names,
                origin,
            },
            EndpointStatus {
                mode: tls.mode().word().to_owned(),
                certificates,
                read: Timestamp::now(),
                warnings,
                error: None,
            },
        )),
        _ => Err(flaws),
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static FROM_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];
    match least {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}
