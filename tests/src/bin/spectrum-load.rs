//! A load as a process of its own: takes a job as JSON, prints its report as JSON.

use std::{
    env,
    io::{self, Write},
};

use anyhow::{Context, Result};
use spectrum_tests::load::{Job, raise_file_limit};

const USAGE: &str = r#"usage: spectrum-load JOB, where JOB is JSON, for example
  {"serve": {"servers": [{"echo": "10.0.0.2:7000"}]}}
  {"ping_pong": {"to": "10.0.0.1:7000", "connections": 1, "size": 64, "span": {"warm_up": 0.5, "measured": 3}}}"#;

fn main() -> Result<()> {
    let job = env::args().nth(1).context(USAGE)?;
    let job: Job = serde_json::from_str(&job).context(USAGE)?;
    raise_file_limit()?;
    let report = job.run()?;
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}
