//! `spectrum drain`: takes apps out of service, and waits for their connections to end.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Drain, Global, ask::ask, output};
use crate::{control::Request, status::Status};

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(250);

/// Between two lines that say so.
const REPORT: Duration = Duration::from_secs(5);

pub fn run(global: &Global, args: &Drain) -> Result<ExitCode> {
    let request = Request::Drain {
        apps: args.apps.clone(),
        end: args.end,
    };
    let apps: Vec<String> = ask(global, request)?;
    if args.end {
        output::print(&format!("{} let clients in again", apps.join(", ")))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.no_wait {
        output::print(&format!("{} let no client in any more", apps.join(", ")))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait(global, &apps, args.timeout)
}

/// Returns 1 if connections are left when the time is over.
fn wait(global: &Global, apps: &[String], timeout: Option<Duration>) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut reported = None;
    loop {
        let status: Status = ask(global, Request::Status)?;
        let of_apps = status.apps.iter().filter(|app| apps.contains(&app.name));
        let open = of_apps.filter_map(|app| Some(app.proxy.as_ref()?.active));
        let left: u32 = open.sum();
        if left == 0 {
            output::print("no connection is left")?;
            return Ok(ExitCode::SUCCESS);
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            log::error!(
                "{left} connections are left, which go on; stop the daemon to cut them, or \
                 `spectrum drain --end` to let clients in again"
            );
            return Ok(ExitCode::FAILURE);
        }
        if reported.is_none_or(|at: Instant| at.elapsed() >= REPORT) {
            reported = Some(Instant::now());
            log::info!("{left} connections are left");
        }
        thread::sleep(LOOK);
    }
}
