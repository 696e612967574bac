//! Documents change while clients are connected.

use std::{fs, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spectrum_tests::{
    client,
    daemon::AppDocument,
    origin::{self, port},
    topology::address::EDGE,
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, ensure_silent, get, shielded};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "reload::a_changed_document_takes_effect_by_itself",
        needs: &[],
        run: a_changed_document_takes_effect_by_itself,
    },
    Case {
        name: "reload::sighup_keeps_connections_of_unchanged_apps",
        needs: &[],
        run: sighup_keeps_connections_of_unchanged_apps,
    },
    Case {
        name: "reload::an_invalid_document_changes_nothing_and_says_where",
        needs: &[],
        run: an_invalid_document_changes_nothing_and_says_where,
    },
];

const ECHO: AppDocument<'_> = AppDocument::tcp("echo.lab", port::ECHO);
const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);

/// A connection of a live session, which must survive what happens to other apps.
fn open_session(scene: &Scene<'_>) -> Result<TcpStream> {
    let edge = (EDGE, port::ECHO).into();
    let stream = client::connect(&scene.lab.client, None, edge, PATIENCE)?;
    client::echo_bytes(&stream, b"before").context("before the change")?;
    Ok(stream)
}

fn a_changed_document_takes_effect_by_itself() -> Result<()> {
    shielded(&[ECHO, HTTP], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let _origins = [port::HTTP, 8080].map(|port| origin::http(&lab.origin, port));
        let session = open_session(&scene)?;
        let get = |port: u16| get(&lab.client, None, (EDGE, port).into()).map(drop);
        get(port::HTTP)?;

        scene.site.write_app(&AppDocument { port: 8080, ..HTTP })?;
        wait::until("the app to move to its new port", PATIENCE, || get(8080))?;
        ensure_silent(&lab.client, None, (EDGE, port::HTTP).into())?;
        client::echo_bytes(&session, b"after a change")?;

        scene.site.remove_app("http.lab")?;
        scene.wait_for("the app to go", |status| {
            ensure!(status.app("http.lab").is_err());
            Ok(())
        })?;
        ensure_silent(&lab.client, None, (EDGE, 8080).into())?;
        client::echo_bytes(&session, b"after a removal")
    })
}

fn sighup_keeps_connections_of_unchanged_apps() -> Result<()> {
    shielded(&[ECHO, HTTP], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let _http = origin::http(&lab.origin, 8080)?;
        let session = open_session(&scene)?;
        let before = scene.filter("echo.lab")?.passed.packets;
        scene.site.write_app(&AppDocument { port: 8080, ..HTTP })?;
        scene.daemon.signal(Signal::SIGHUP)?;
        let get = || get(&lab.client, None, (EDGE, 8080).into()).map(drop);
        wait::until("the app to move to its new port", PATIENCE, get)?;
        client::echo_bytes(&session, b"after")?;
        let status = scene.site.status()?;
        let app = status.app("echo.lab")?;
        ensure!(
            app.filter.passed.packets > before,
            "counters began anew: {app:?}"
        );
        ensure!(app.proxy()?.active == 1, "{app:?}");
        Ok(())
    })
}

fn an_invalid_document_changes_nothing_and_says_where() -> Result<()> {
    shielded(&[ECHO, HTTP], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let _http = origin::http(&lab.origin, port::HTTP)?;
        let session = open_session(&scene)?;
        let valid = fs::read_to_string(scene.site.app("http.lab"))?;
        let invalid = valid.replace("tcp/80", "tcp/80000");
        scene.site.write_document("http.lab", &invalid)?;
        scene.daemon.signal(Signal::SIGHUP)?;
        let line = 1 + invalid
            .lines()
            .position(|line| line.contains("80000"))
            .unwrap_or(0);
        scene
            .daemon
            .wait_for_log(&format!("http.lab.toml:{line}:"))?;

        get(&lab.client, None, (EDGE, port::HTTP).into()).context("the app of the document")?;
        client::echo_bytes(&session, b"after")?;
        let check = scene.site.attempt("check", &[""; 0])?;
        let complaint = String::from_utf8(check.stderr)?;
        ensure!(!check.status.success(), "`check` is content with it");
        ensure!(
            complaint.contains(&format!("http.lab.toml:{line}:")),
            "{complaint}"
        );

        scene.site.write_document("http.lab", &valid)?;
        wait::until(
            "`check` to be content again",
            Duration::from_secs(1),
            || scene.site.run("check", &[""; 0]).map(drop),
        )
    })
}
