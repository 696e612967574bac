//! What the daemon's log tells of single packets, and what that costs whoever does not ask.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab,
    daemon::{AppDocument, HostDocument, Site, output},
    origin::{self, port},
    topology::{
        FRONT,
        address::{ATTACKER, ATTACKER_V6, CLIENT, EDGE, EDGE_V6},
    },
};

use crate::harness::{Case, ensure_silent, get};

pub(crate) const CASES: &[Case] = &[Case {
    name: "logs::every_packet_has_a_line_for_those_who_ask_and_costs_nobody_else",
    needs: &["bpftool"],
    run: every_packet_has_a_line_for_those_who_ask_and_costs_nobody_else,
}];

fn every_packet_has_a_line_for_those_who_ask_and_costs_nobody_else() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let blocked = HostDocument {
        protection: &format!("block = [\"{ATTACKER}\", \"{ATTACKER_V6}\"]"),
        ..HostDocument::default()
    };
    let site = Site::new(&lab, blocked)?;
    site.write_app(&AppDocument::tcp("http.lab", port::HTTP))?;
    let (edge, edge_v6) = ((EDGE, port::HTTP).into(), (EDGE_V6, port::HTTP).into());

    let daemon = site.start_with(logging("info,packets=trace"))?;
    get(&lab.client, None, edge)?;
    ensure_silent(&lab.attacker, None, edge)?;
    ensure_silent(&lab.attacker, None, edge_v6)?;
    for line in [
        format!("passed                        from {CLIENT} port "),
        format!("dropped        blocked        from {ATTACKER} port "),
        format!("dropped        blocked        from {ATTACKER_V6} port "),
        format!(" to {EDGE_V6} port {}: protocol 6, slot 1, ", port::HTTP),
    ] {
        daemon.wait_for_log(&line)?;
    }
    let talkative = instructions(&lab)?;
    daemon.stop()?;

    let lines = || site.log().matches(" port ").count();
    let before = lines();
    let daemon = site.start_with(logging("info"))?;
    daemon.wait_for_log("taken over")?;
    get(&lab.client, None, edge)?;
    ensure!(
        lines() == before,
        "a line nobody asked for:\n{}",
        site.log()
    );
    let silent = instructions(&lab)?;
    ensure!(
        silent < talkative,
        "{silent} instructions without the log, {talkative} with it"
    );
    Ok(())
}

fn logging(filter: &str) -> impl FnOnce(&mut Command) {
    move |run| {
        run.env("RUST_LOG", filter);
    }
}

/// Bytes of the program that the verifier has left over.
fn instructions(lab: &Lab) -> Result<u64> {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["--json", "prog", "show", "pinned"]);
    bpftool.arg(lab.pin_dir().join(FRONT).join("program"));
    let shown = output(&lab.edge, &mut bpftool)?.stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown)?;
    let bytes = shown
        .get("bytes_xlated")
        .and_then(serde_json::Value::as_u64);
    bytes.context("bpftool does not tell the size of the program")
}
