//! `spectrum run`.

use std::process::ExitCode;

use anyhow::Result;

use super::{Global, Run};
use crate::daemon;

pub fn run(global: &Global, args: &Run) -> Result<ExitCode> {
    daemon::run(&daemon::Options {
        config: global.config.clone(),
        detach_on_exit: args.detach_on_exit,
    })?;
    Ok(ExitCode::SUCCESS)
}
