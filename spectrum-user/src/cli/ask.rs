//! How commands ask the daemon that runs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;

use super::{Global, context::Context};
use crate::control::{self, Request};

/// As long as most answers take at the most.
const PATIENCE: Duration = Duration::from_secs(5);

/// # Errors
/// No daemon runs, or it answers with an error.
pub(super) fn ask<T: DeserializeOwned>(global: &Global, request: Request) -> Result<T> {
    ask_within(PATIENCE, global, request)
}

/// As [`ask`], of what takes longer.
///
/// # Errors
/// As [`ask`].
pub(super) fn ask_within<T: DeserializeOwned>(
    patience: Duration,
    global: &Global,
    request: Request,
) -> Result<T> {
    let context = Context::load(&global.config);
    let config = context
        .config
        .context("without a configuration, no daemon can be asked")?;
    let socket = &config.host.control_socket;
    match control::ask_within(patience, socket, request)? {
        Some(answer) => Ok(answer),
        None => bail!(
            "no daemon answers on {}\n  help: `spectrum run` starts one",
            socket.display()
        ),
    }
}
