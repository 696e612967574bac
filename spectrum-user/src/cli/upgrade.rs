//! `spectrum upgrade`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use super::{Global, ask::ask_within, output};
use crate::{config, control::Request};

/// Longer than the daemon itself waits.
const PATIENCE: Duration = Duration::from_mins(3);

pub fn run(global: &Global) -> Result<ExitCode> {
    // Its mistakes are shown here, rather than in the log of a program that cannot start.
    config::load(&global.config)?;
    let () = ask_within(PATIENCE, global, Request::Upgrade)?;
    output::print("the program that is installed now has taken over")?;
    Ok(ExitCode::SUCCESS)
}
