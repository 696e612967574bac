//! `spectrum generate`: shell completions and man pages.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Generate};

/// # Errors
/// The directory cannot be written.
pub fn run(args: &Generate) -> Result<ExitCode> {
    completions(&args.directory.join("completions"))?;
    man_pages(&args.directory.join("man"))?;
    Ok(ExitCode::SUCCESS)
}

fn completions(directory: &Path) -> Result<()> {
    create(directory)?;
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, directory)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}

/// One page for the whole, and one for each command.
fn man_pages(directory: &Path) -> Result<()> {
    create(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}
