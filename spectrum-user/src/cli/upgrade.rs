//! `spectrum upgrade`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};

use super::{Global, output};
use crate::{
    config,
    control::{self, Request},
};

/// Longer than the daemon itself waits.
const PATIENCE: Duration = Duration::from_mins(3);

pub fn run(global: &Global) -> Result<ExitCode> {
    let config = config::load(&global.config)?;
    let socket = &config.host.control_socket;
    let Some(()) = control::ask_within(PATIENCE, socket, Request::Upgrade)? else {
        bail!(
            "no daemon answers on {}\n  help: start one with `spectrum run`",
            socket.display()
        );
    };
    output::print("the program that is installed now has taken over")?;
    Ok(ExitCode::SUCCESS)
}
