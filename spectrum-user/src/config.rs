//! The configuration: `spectrum.toml` for the host, one document per app in `apps.d/`.
//!
//! Nothing else in the program reads a configuration file. What comes out of here is valid.
//! Reading goes on after a problem, so that [`Errors`] holds all of them.

mod app;
mod clash;
mod document;
mod errors;
mod feed;
mod health;
mod host;
mod limits;
mod origins;
mod place;
mod prefix;
mod protection;
mod read;
mod routing;
pub mod rule;
mod source;
mod tls;
mod words;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use app::{
    App, AppId, Connectivity, DataPath, EdgeIps, HeaderOn, PortRange, ProxyProtocol, Timeouts,
    Transport,
};
pub use document::{AppDocument, HostDocument};
pub use errors::{Errors, Finding};
pub use feed::{Feed, FeedAction, FeedSource};
pub use health::{Check, CheckKind, Exchange, Health};
pub use host::{EventOutput, Host, SynAnswers, XdpMode};
pub use limits::{Bandwidth, ConnectionRate, Limits, NewConnections, Queue, Ways};
pub use origins::{Balance, Lookup, Member, Origin, Origins, Records, SourceAddress};
pub use place::{Admission, Geo};
pub use prefix::{PrefixError, parse_prefix};
pub use protection::{
    Amplification, Ceiling, Datagrams, Mitigation, Mode, Protection, Rate, Sensitivity,
    SynChallenge, TcpSession, When,
};
pub use routing::{Route, RouteBy, Routing};
pub use tls::{ClientTls, Fingerprint, KeyPair, OriginTls, Tls, TlsMode, TlsVersion, UnknownNames};

use errors::Problem;
use source::Source;

use crate::geo::Question;

/// What to do about a document that cannot be read.
const HOST_HELP: &str = "create it, or name another with `--config PATH`";
const APP_HELP: &str = "it has to be a file that this user may read";

/// A whole valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub host: Host,
    /// Sorted by name.
    pub apps: Vec<Arc<App>>,
}

impl Config {
    /// Everything that apps and rules ask of where sources are, each once.
    pub fn questions(&self) -> BTreeSet<Question> {
        place::all_questions(&self.host, self.apps.iter().map(Arc::as_ref))
    }
}

/// Reads `spectrum.toml` and the apps of its `apps_dir`.
///
/// # Errors
/// Everything that is wrong with any of these documents, alone or together.
pub fn load(path: &Path) -> Result<Config, Errors> {
    let source = Source::read(path, HOST_HELP).map_err(|problem| Errors::new(vec![problem]))?;
    let mut problems = Vec::new();
    let draft = read::host(&source, &mut problems);

    let documents = match &draft.apps_dir {
        Some(directory) => app_documents(directory).unwrap_or_else(|error| {
            let help = "create the directory, or set `apps_dir`";
            problems.push(Problem::unreadable(directory, &error, help));
            Vec::new()
        }),
        None => Vec::new(),
    };
    let drafts: Vec<_> = documents
        .iter()
        .filter_map(|document| match Source::read(document, APP_HELP) {
            Ok(source) => read::app(&source, &mut problems),
            Err(problem) => {
                problems.push(problem);
                None
            }
        })
        .collect();
    problems.extend(clash::between_apps(&drafts));
    if !draft.has_databases {
        let of_apps = drafts.iter().flat_map(|app| &app.asking);
        problems.extend(clash::without_databases(draft.asking.iter().chain(of_apps)));
    }

    let mut apps: Vec<App> = drafts.into_iter().filter_map(|draft| draft.app).collect();
    if let Some(host) = &draft.host {
        problems.extend(clash::beyond_capacity(host, &apps, path));
        problems.extend(clash::between_feeds_and_apps(host, &apps, path));
        problems.extend(clash::too_many_questions(host, &apps, path));
    }
    match draft.host {
        Some(host) if problems.is_empty() => {
            apps.sort_by(|a, b| a.name.cmp(&b.name));
            let apps = apps.into_iter().map(Arc::new).collect();
            Ok(Config { host, apps })
        }
        _ => Err(Errors::new(problems)),
    }
}

/// Reads the document of one app.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_app(path: &Path) -> Result<App, Errors> {
    let mut problems = Vec::new();
    let draft = match Source::read(path, APP_HELP) {
        Ok(source) => read::app(&source, &mut problems),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    draft
        .and_then(|draft| draft.app)
        .ok_or_else(|| Errors::new(problems))
}

/// The documents of a directory, sorted by name. Hidden files are those that editors are writing.
fn app_documents(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut documents = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|ending| ending == "toml") && !is_hidden && path.is_file() {
            documents.push(path);
        }
    }
    documents.sort();
    Ok(documents)
}
