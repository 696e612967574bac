//! `spectrum run`.

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result};

use super::{Global, Run};
use crate::daemon;

pub fn run(global: &Global, args: &Run) -> Result<ExitCode> {
    daemon::run(&daemon::Options {
        config: global.config.clone(),
        detach_on_exit: args.detach_on_exit,
        upgrade: args.upgrade,
        program: env::current_exe().context("cannot find out which program this is")?,
    })?;
    Ok(ExitCode::SUCCESS)
}
