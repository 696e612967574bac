//! Recorded packets, judged by the filter that runs and without a trace in it.

use std::{fs, net::SocketAddr, path::Path, process::Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spectrum_tests::{
    Lab,
    daemon::{AppDocument, HostDocument, Site},
    origin::port,
    packet::{self, Flags},
    topology::address::{ATTACKER, CLIENT, EDGE},
};

use crate::harness::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "replay::recorded_packets_are_judged_as_the_filter_would_and_leave_no_trace",
    needs: &[],
    run: recorded_packets_are_judged_as_the_filter_would_and_leave_no_trace,
}];

const ETHERNET: u32 = 1;
const COOKED: u32 = 113;

fn recorded_packets_are_judged_as_the_filter_would_and_leave_no_trace() -> Result<()> {
    let lab = Lab::new()?;
    let host = HostDocument {
        protection: &format!("block = [\"{ATTACKER}\"]"),
        ..HostDocument::default()
    };
    let site = Site::new(&lab, host)?;
    site.write_app(&AppDocument::tcp("http.lab", port::HTTP))?;
    let edge = (EDGE, port::HTTP).into();
    let syn = |from| packet::tcp(lab.attack_path(), from, edge, Flags::SYN);
    let frames = [
        syn((CLIENT, 40_000).into())?,
        syn((ATTACKER, 40_000).into())?,
    ];
    let file = lab.dir().join("two.pcap");
    fs::write(&file, pcap(ETHERNET, &frames))?;

    // By the documents, before there is any filter.
    let by_documents = replay(&site, &file, &["--edge", &EDGE.to_string()])?;
    ensure!(by_documents["rules"] == "the documents", "{by_documents}");
    ensure_told_apart(&by_documents)?;

    let _daemon = site.start()?;
    site.run("block", &[CLIENT.to_string()])?;
    let before = site.status()?.app("http.lab")?.filter.clone();
    let by_filter = replay(&site, &file, &[])?;
    ensure!(
        by_filter["verdicts"][0]["reason"] == "blocked",
        "{by_filter}"
    );
    site.run("unblock", &[CLIENT.to_string()])?;
    ensure_told_apart(&replay(&site, &file, &[])?)?;
    let after = site.status()?.app("http.lab")?.filter.clone();
    ensure!(
        before.reasons() == after.reasons(),
        "{before:?} became {after:?}"
    );

    // What a pipeline of a CI asks, and what it is told.
    let path = file.display().to_string();
    let expecting = |end| site.attempt("replay", &[path.as_str(), "--quiet", "--expect", end]);
    ensure!(expecting("pass")?.status.code() == Some(3));
    fs::write(&file, pcap(ETHERNET, &frames[1..]))?;
    ensure!(expecting("drop")?.status.code() == Some(0));
    ensure!(expecting("blocked")?.status.code() == Some(0));

    for (bytes, complaint) in [
        (pcap(COOKED, &frames), "link type 113"),
        (pcap(ETHERNET, &[vec![0; 13]]), "no Ethernet frame"),
        (cut(pcap(ETHERNET, &frames)), "cut short behind packet 1"),
        (b"no packets, a text".to_vec(), "not a pcap"),
    ] {
        fs::write(&file, bytes)?;
        let Output { status, stderr, .. } = site.attempt("replay", &[&path])?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(
            status.code() == Some(1) && said.contains(complaint),
            "{said}"
        );
    }
    Ok(())
}

fn replay(site: &Site<'_>, file: &Path, options: &[&str]) -> Result<Value> {
    let file = file.display().to_string();
    let arguments = [&[file.as_str(), "-o", "json"], options].concat();
    serde_json::from_str(&site.run("replay", &arguments)?).context("not JSON")
}

/// The client passes, and the attacker is dropped.
fn ensure_told_apart(report: &Value) -> Result<()> {
    let verdict = |index: usize| {
        let verdict = &report["verdicts"][index];
        let source: SocketAddr = verdict["source"].as_str()?.parse().ok()?;
        let app = verdict["app"].as_str()?;
        Some((source.ip(), verdict["verdict"].as_str()?, app))
    };
    ensure!(
        verdict(0) == Some((CLIENT.into(), "pass", "http.lab")),
        "{report}"
    );
    ensure!(
        verdict(1) == Some((ATTACKER.into(), "drop", "http.lab")),
        "{report}"
    );
    ensure!(report["verdicts"][1]["reason"] == "blocked", "{report}");
    Ok(())
}

/// A file in the old format (draft-ietf-opsawg-pcap).
fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        file.extend(words(&[0, 0, length, length]));
        file.extend(frame);
    }
    file
}

/// As a full disk would leave it.
fn cut(mut file: Vec<u8>) -> Vec<u8> {
    file.pop();
    file
}
