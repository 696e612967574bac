//! An app is taken out of service while its clients are connected.

use std::io::ErrorKind;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, HostDocument},
    origin::{self, port},
    topology::address::EDGE,
};

use crate::harness::{Case, PATIENCE, Scene, get, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "drain::newcomers_go_elsewhere_and_clients_stay",
        needs: &[],
        run: newcomers_go_elsewhere_and_clients_stay,
    },
    Case {
        name: "drain::an_app_that_nobody_knows_is_named",
        needs: &[],
        run: an_app_that_nobody_knows_is_named,
    },
];

const STREAMS: AppDocument<'_> = AppDocument::tcp("streams.lab", port::ECHO);
const DATAGRAMS: AppDocument<'_> = AppDocument::udp("datagrams.lab", port::ECHO);
const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);

/// Shorter than what this test takes: a drain asks nobody to hurry.
fn host() -> HostDocument<'static> {
    HostDocument {
        drain: "50ms",
        ..HostDocument::default()
    }
}

fn newcomers_go_elsewhere_and_clients_stay() -> Result<()> {
    let lab = Lab::new()?;
    let _streams = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let _datagrams = origin::udp_echo(&lab.origin, port::ECHO)?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    shielded_in(&lab, host(), &[STREAMS, DATAGRAMS, HTTP], |scene| {
        let edge = (EDGE, port::ECHO).into();
        let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
        let player = client::udp(&lab.client, None, edge)?;
        let go_on = |when: &'static str| {
            client::echo_bytes(&stream, when.as_bytes()).context(when)?;
            client::echo_datagram(&player, when.as_bytes()).context(when)
        };
        go_on("before")?;

        let apps = [STREAMS.name, DATAGRAMS.name];
        let wait = [apps[0], apps[1], "--timeout", "300ms"];
        let output = scene.site.attempt("drain", &wait)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        ensure!(said.contains("2 connections are left"), "{said}");
        go_on("while they drain")?;
        ensure_refused(&scene)?;
        get(&lab.client, None, (EDGE, port::HTTP).into()).context("the app that stays")?;
        let drained = |name| -> Result<bool> { Ok(scene.site.status()?.app(name)?.is_drained) };
        ensure!(drained(STREAMS.name)? && drained(DATAGRAMS.name)? && !drained(HTTP.name)?);

        // What is drained stays so, and its clients connected, whatever is changed beside it.
        let other = AppDocument::tcp("other.lab", 8080);
        scene.site.write_app(&other)?;
        scene.daemon.signal(Signal::SIGHUP)?;
        scene.wait_for("the reload", |status| status.app(other.name).map(drop))?;
        go_on("after a reload")?;
        ensure_refused(&scene)?;

        drop(stream);
        scene
            .site
            .run("drain", &[STREAMS.name])
            .context("nobody is left")?;
        scene.site.run("drain", &["--end"])?;
        let late = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&late, b"back in service")?;
        client::echo_datagram(&player, b"never out of it")?;
        let newcomer = client::udp(&lab.client, None, edge)?;
        client::echo_datagram(&newcomer, b"back in service")
    })
}

/// At once, so that clients and balancers lose no time.
fn ensure_refused(scene: &Scene<'_>) -> Result<()> {
    let edge = (EDGE, port::ECHO).into();
    let attempt = client::connect(&scene.lab.client, None, edge, PATIENCE);
    let error = attempt.err().context("a newcomer was let in")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    Ok(())
}

fn an_app_that_nobody_knows_is_named() -> Result<()> {
    let lab = Lab::new()?;
    shielded_in(&lab, host(), &[HTTP], |scene| {
        let output = scene.site.attempt("drain", &["http.labb"])?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(!output.status.success(), "it claims to drain it");
        ensure!(said.contains("no app is called http.labb"), "{said}");
        ensure!(said.contains("http.lab"), "{said}");
        Ok(())
    })
}
