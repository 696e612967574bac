//! `spectrum mitigations`: what the engine has done against floods.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Format, Global, MitigationAction, Mitigations, ask::ask, output};
use crate::{
    control::Request,
    mitigation::Evidence,
    status::{MitigationStatus, Status},
};

/// A mitigation and its app.
#[derive(Serialize)]
struct Shown {
    app: String,
    #[serde(flatten)]
    mitigation: MitigationStatus,
}

pub fn run(global: &Global, args: &Mitigations) -> Result<ExitCode> {
    match args.action {
        None => list(global, args.format),
        Some(MitigationAction::Accept(which)) => {
            let request = Request::AcceptMitigation { id: which.id };
            change(global, request, which.format, "stays until it is removed")
        }
        Some(MitigationAction::Remove(which)) => {
            let request = Request::RemoveMitigation { id: which.id };
            let done = "is removed; such packets are left alone for an hour";
            change(global, request, which.format, done)
        }
    }
}

fn list(global: &Global, format: Format) -> Result<ExitCode> {
    let status: Status = ask(global, Request::Status)?;
    let of_apps = status.apps.into_iter().flat_map(|app| {
        let name = app.name;
        app.mitigations.into_iter().map(move |mitigation| Shown {
            app: name.clone(),
            mitigation,
        })
    });
    let all: Vec<Shown> = of_apps.collect();
    output::print_as(format.output, &all, || match all.len() {
        0 => "No app is under a flood that has a fingerprint.".to_owned(),
        _ => table(&all),
    })
}

fn change(global: &Global, request: Request, format: Format, done: &str) -> Result<ExitCode> {
    let mitigation: MitigationStatus = ask(global, request)?;
    output::print_as(format.output, &mitigation, || {
        format!(
            "mitigation {} ({}) {done}",
            mitigation.id, mitigation.fingerprint
        )
    })
}

fn table(all: &[Shown]) -> String {
    let mut table = output::table(&[
        "id",
        "app",
        "drops packets with",
        "mode",
        "matched",
        "since",
        "until",
        "because",
    ]);
    for Shown { app, mitigation } in all {
        table.add_row([
            mitigation.id.to_string(),
            app.clone(),
            mitigation.fingerprint.clone(),
            mitigation.mode.clone(),
            output::count(mitigation.hits.packets),
            mitigation.installed.map(output::time).unwrap_or_default(),
            mitigation
                .expires
                .map_or("removed".to_owned(), output::time),
            mitigation
                .evidence
                .as_ref()
                .map_or_else(|| "an earlier run saw a flood".to_owned(), because),
        ]);
    }
    table.to_string()
}

fn because(evidence: &Evidence) -> String {
    format!(
        "{}/s came, at most {}/s are usual; {} of {} samples look so, from {} sources, and {} of {} \
         before",
        output::count(evidence.rate),
        output::count(evidence.usual_rate),
        evidence.matching,
        evidence.samples,
        evidence.sources,
        evidence.baseline_matching,
        evidence.baseline_samples,
    )
}
