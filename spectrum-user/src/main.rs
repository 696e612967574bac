use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use log::Level;
use spectrum_user::{
    cli::{self, Cli, Command},
    config,
};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    init_log();
    let result = match command {
        Command::Run(args) => cli::run::run(&global, &args),
        Command::Drain(args) => cli::drain::run(&global, &args),
        Command::Upgrade(_) => cli::upgrade::run(&global),
        Command::Check(args) => cli::check::run(&global, &args),
        Command::Status(args) => cli::status::run(&global, &args),
        Command::Block(args) => cli::access::block(&global, &args),
        Command::Unblock(args) => cli::access::unblock(&global, &args),
        Command::Allow(args) => cli::access::allow(&global, &args),
        Command::Why(args) => cli::why::run(&global, &args),
        Command::Lists(args) => cli::lists::run(&global, &args),
        Command::Capture(args) => cli::capture::run(&global, &args),
        Command::Replay(args) => cli::replay::run(&global, &args),
        Command::Mitigations(args) => cli::mitigations::run(&global, &args),
        Command::Detach(args) => cli::detach::run(&global, &args),
        Command::Generate(args) => cli::generate::run(&args),
    };
    result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            // `spectrum status | head` has seen enough.
            return ExitCode::SUCCESS;
        }
        report(&error);
        ExitCode::FAILURE
    })
}

/// To stderr, from level `info` unless `RUST_LOG` says otherwise. The journal stamps lines itself
/// and reads their priority from a prefix (sd-daemon(3)).
fn init_log() {
    let env = env_logger::Env::default().default_filter_or("info");
    let mut builder = env_logger::Builder::from_env(env);
    if env::var_os("JOURNAL_STREAM").is_some() {
        builder.format(|line, record| {
            let priority = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            writeln!(line, "<{priority}>{}", record.args())
        });
    } else {
        builder.format_target(false);
    }
    builder.init();
}

/// Prints why a command failed. Mistakes in the configuration speak for themselves.
fn report(error: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    let text = match error.downcast_ref::<config::Errors>() {
        Some(errors) => errors.render(stderr.is_terminal() && env::var_os("NO_COLOR").is_none()),
        None => {
            let causes = error
                .chain()
                .skip(1)
                .map(|cause| format!("\n  caused by: {cause}"));
            format!("error: {error}{}", causes.collect::<String>())
        }
    };
    // Where not even stderr can be written, the exit code still tells.
    let _ = writeln!(stderr, "{text}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
