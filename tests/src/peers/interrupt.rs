//! Ctrl-C and SIGTERM end a run where it next looks, so that everything is put away on the way out.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the signals that ask a process to end visible to [`check`].
///
/// # Errors
/// Those of `sigaction`.
pub fn install() -> Result<()> {
    let handler = SigHandler::Handler(note);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Relaxed);
}

/// # Errors
/// Once a signal has asked this process to end.
pub fn check() -> Result<()> {
    ensure!(!INTERRUPTED.load(Relaxed), "interrupted");
    Ok(())
}
