//! The limits of the proxy, as clients and operators meet them.

use std::{fs, net::TcpStream, time::Instant};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    client,
    daemon::AppDocument,
    origin::{self, port},
    topology::address::EDGE,
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, shielded};

pub(crate) const CASES: &[Case] = &[Case {
    name: "limits::a_rush_is_refused_by_name_and_who_is_inside_stays",
    needs: &[],
    run: a_rush_is_refused_by_name_and_who_is_inside_stays,
}];

const APP: &str = "echo.lab";

fn app(tables: &str) -> AppDocument<'_> {
    AppDocument {
        tables,
        ..AppDocument::tcp(APP, port::ECHO)
    }
}

fn connect(scene: &Scene<'_>) -> Result<TcpStream> {
    let edge = (EDGE, port::ECHO).into();
    Ok(client::connect(&scene.lab.client, None, edge, PATIENCE)?)
}

fn a_rush_is_refused_by_name_and_who_is_inside_stays() -> Result<()> {
    let slowly = "[limits]\nnew_connections_per_second = { per_source = 1, per_source_burst = 5 }";
    shielded(&[app(slowly)], |scene| {
        let _echo = origin::tcp_echo(&scene.lab.origin, port::ECHO)?;
        let inside = connect(&scene)?;
        client::echo_bytes(&inside, b"first")?;
        let began = Instant::now();
        let came = 40;
        let served = (0..came)
            .filter(|_| {
                let rush = connect(&scene);
                rush.is_ok_and(|stream| client::echo_bytes(&stream, b"rush").is_ok())
            })
            .count() as u64;
        // One of the burst is inside.
        let most = 4 + began.elapsed().as_secs() + 1;
        ensure!((4..=most).contains(&served), "{served} were served");
        let refused = refused(&scene, "new_connections_per_source")?;
        ensure!(
            refused == came - served,
            "{refused} refused, {served} served"
        );
        wait_for_event(&scene, "new_connections_per_source")?;

        scene
            .site
            .write_app(&app("[limits]\nconnections_per_prefix = 2"))?;
        wait::until("the new limits", PATIENCE, || {
            let second = connect(&scene)?;
            client::echo_bytes(&second, b"second")?;
            let third = connect(&scene).is_ok_and(|third| client::echo_bytes(&third, b"x").is_ok());
            ensure!(!third, "a third of the same network was served");
            let refused = self::refused(&scene, "connections_per_prefix")?;
            ensure!(refused > 0, "something else has refused it");
            Ok(())
        })?;
        wait_for_event(&scene, "connections_per_prefix")?;
        client::echo_bytes(&inside, b"still here")
    })
}

/// How many a limit has refused.
fn refused(scene: &Scene<'_>, limit: &str) -> Result<u64> {
    let status = scene.site.status()?;
    let refusals = &status.app(APP)?.proxy()?.refusals;
    Ok(refusals.get(limit).copied().unwrap_or_default())
}

/// The log of events names the limit.
fn wait_for_event(scene: &Scene<'_>, limit: &str) -> Result<()> {
    wait::until("the event", PATIENCE, || {
        let events = fs::read_to_string(scene.site.events())?;
        let named = format!("\"Reason\":\"{limit}\"");
        let event = events.lines().find(|line| line.contains(&named));
        let event = event.with_context(|| format!("no {named} in:\n{events}"))?;
        ensure!(event.contains("\"Status\":403"), "{event}");
        Ok(())
    })
}
