//! `spectrum run`.

use std::process::ExitCode;

use anyhow::Result;

use super::{GlobalArgs, RunArgs};
use crate::daemon;

pub(super) fn run(global: &GlobalArgs, args: &RunArgs) -> Result<ExitCode> {
    daemon::run(&daemon::Options {
        config: global.config.clone(),
        detach_on_exit: args.detach_on_exit,
    })?;
    Ok(ExitCode::SUCCESS)
}
