//! `spectrum detach`: removes filters, also those of a daemon that is gone.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{Detach, Global, context::Context, output};
use crate::dataplane::Pins;

#[derive(Serialize)]
struct Detached {
    detached: Vec<String>,
}

pub fn run(global: &Global, args: &Detach) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let pinned = Pins::interfaces(&context.pin_dir);
    let interfaces = match &args.interface {
        None => pinned,
        Some(interface) if pinned.contains(interface) => vec![interface.clone()],
        Some(interface) => bail!(
            "{interface} has no filter of ours\n  help: {} has these: {}",
            context.pin_dir.display(),
            pinned.join(", ")
        ),
    };
    for interface in &interfaces {
        Pins::new(&context.pin_dir, interface).remove()?;
    }
    let done = Detached {
        detached: interfaces,
    };
    output::print_as(args.format.output, &done, || {
        match done.detached.as_slice() {
            [] => "no interface had a filter".to_owned(),
            detached => format!("detached: {}", detached.join(", ")),
        }
    })
}
