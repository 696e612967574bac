//! What all cases share: how they become trials, and the scene they play in.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spectrum_tests::{
    Lab,
    client::{self, Http},
    daemon::{
        self, AppDocument, Daemon, HostDocument, Site,
        status::{Filter, Status},
    },
    requirements,
    topology::Host,
    wait,
};

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// What users have; they lose it when the case fails.
    pub(crate) name: &'static str,
    /// Programs without which it cannot run.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: fn() -> Result<()>,
}

pub(crate) fn trial(case: Case) -> Trial {
    Trial::ignorable_test(case.name, move || {
        if let Some(reason) = requirements::missing(case.needs) {
            return Ok(Completion::ignored_with(reason));
        }
        match (case.run)() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(explain(&error))),
        }
    })
}

/// Each cause on a line of its own, the last one first: it is what went wrong.
fn explain(error: &anyhow::Error) -> String {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join("\n  in: ")
}

/// A thousand clients need more descriptors than a login shell allows.
pub(crate) fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// A lab whose edge runs Spectrum.
pub(crate) struct Scene<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) site: Site<'lab>,
    pub(crate) daemon: Daemon<'lab>,
}

/// Starts a daemon for `apps` in a new lab, and plays. A failure comes with the daemon's log.
pub(crate) fn shielded(
    apps: &[AppDocument<'_>],
    play: impl FnOnce(Scene<'_>) -> Result<()>,
) -> Result<()> {
    shielded_in(&Lab::new()?, HostDocument::default(), apps, play)
}

/// The same in a given lab, where what must run before the daemon already does.
pub(crate) fn shielded_in(
    lab: &Lab,
    host: HostDocument<'_>,
    apps: &[AppDocument<'_>],
    play: impl FnOnce(Scene<'_>) -> Result<()>,
) -> Result<()> {
    let documents: Vec<_> = apps.iter().map(|app| (app.name, app.to_string())).collect();
    let documents: Vec<_> = documents.iter().map(|(name, text)| (*name, text)).collect();
    shielded_with(lab, host, &documents, play)
}

/// The same with apps, by name, whose documents are given whole.
pub(crate) fn shielded_with(
    lab: &Lab,
    host: HostDocument<'_>,
    apps: &[(&str, &String)],
    play: impl FnOnce(Scene<'_>) -> Result<()>,
) -> Result<()> {
    let site = Site::new(lab, host)?;
    for (name, document) in apps {
        site.write_document(name, document)?;
    }
    let daemon = site.start()?;
    let scene = Scene {
        lab,
        site: site.clone(),
        daemon,
    };
    play(scene).with_context(|| format!("the daemon's log:\n{}", site.log()))
}

impl Scene<'_> {
    /// The filter's counters of an app.
    pub(crate) fn filter(&self, app: &str) -> Result<Filter> {
        Ok(self.site.status()?.app(app)?.filter.clone())
    }

    /// Waits until the status is as it should be.
    pub(crate) fn wait_for(&self, what: &str, look: impl Fn(&Status) -> Result<()>) -> Result<()> {
        wait_for(&self.site, what, look)
    }
}

/// As [`Scene::wait_for`], whether a daemon runs or not.
pub(crate) fn wait_for(
    site: &Site<'_>,
    what: &str,
    look: impl Fn(&Status) -> Result<()>,
) -> Result<()> {
    wait::until(what, PATIENCE, || look(&site.status()?))
}

/// Counts what the filter lets through to the edge.
pub(crate) struct Watch<'lab> {
    lab: &'lab Lab,
}

impl<'lab> Watch<'lab> {
    const TABLE: &'static str = "watch";

    /// Of IPv4 sources in a prefix. Needs nft(8).
    pub(crate) fn start(lab: &'lab Lab, sources: &str) -> Result<Self> {
        let rules = format!(
            "table inet {} {{ chain seen {{ type filter hook prerouting priority raw; \
             ip saddr {sources} counter; }}; }}",
            Self::TABLE
        );
        nft(lab, &[&rules])?;
        Ok(Self { lab })
    }

    /// Packets so far.
    pub(crate) fn packets(&self) -> Result<u64> {
        let listed = nft(self.lab, &["list", "table", "inet", Self::TABLE])?;
        let mut words = listed.split_whitespace();
        words.find(|word| *word == "packets");
        let packets = words.next().with_context(|| listed.clone())?;
        Ok(packets.parse()?)
    }
}

fn nft(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = daemon::output(&lab.edge, Command::new("nft").args(arguments))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client waits before it believes that nobody answers.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

/// `/` over a new connection.
pub(crate) fn get(
    host: &Host,
    source: Option<std::net::IpAddr>,
    edge: SocketAddr,
) -> Result<Vec<u8>> {
    let stream = client::connect(host, source, edge, PATIENCE).context("connecting")?;
    Http::new(stream).get("/")
}

/// Nobody answers a connection attempt: neither yes nor no.
pub(crate) fn ensure_silent(
    host: &Host,
    source: Option<std::net::IpAddr>,
    edge: SocketAddr,
) -> Result<()> {
    let attempt = client::connect(host, source, edge, SILENCE);
    let error = attempt
        .err()
        .with_context(|| format!("{edge} accepted {source:?}"))?;
    let kind = error.kind();
    ensure!(
        kind == std::io::ErrorKind::TimedOut,
        "{edge} answered: {error}"
    );
    Ok(())
}

/// `length` bytes without a pattern that a proxy could get right by accident.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Two files hold the same bytes.
pub(crate) fn ensure_same(left: &Path, right: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let same = read(left)? == read(right)?;
    ensure!(same, "{} and {} differ", left.display(), right.display());
    Ok(())
}
