//! Ctrl-C: how a lab ends before its time, and still leaves nothing behind.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::pipe,
};

use crate::leftovers;

/// The end of the pipe that the signal handler writes to.
static PIPE: AtomicI32 = AtomicI32::new(-1);
static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// Exit status of a process that SIGINT ended, as shells report it.
const INTERRUPTED: i32 = 130;

/// Holds the end of `main` back while the labs of this process are being removed: whoever waits
/// for a program that the removal kills would otherwise return first, and cut it short.
#[must_use = "keep it until the end of `main`"]
#[derive(Debug)]
pub struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        drop(leftovers::make());
    }
}

/// Takes SIGINT, SIGTERM and SIGHUP from here on. The first `patience` of them only make
/// [`requested`] true; the next removes what the labs of this process have made, and exits.
///
/// # Errors
/// No pipe, no thread.
pub fn watch(patience: usize) -> io::Result<Watch> {
    let (read, write): (OwnedFd, OwnedFd) = pipe()?;
    PIPE.store(write.as_raw_fd(), Ordering::SeqCst);
    // The handler may run for as long as the process lives, and so must the pipe.
    std::mem::forget(write);
    let notice = SigAction::new(
        SigHandler::Handler(notify),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: `notify` only calls what signal-safety(7) allows.
        unsafe { sigaction(signal, &notice) }?;
    }
    let reader = thread::Builder::new().name("interrupt".to_owned());
    reader.spawn(move || count_signals(File::from(read), patience))?;
    Ok(Watch(()))
}

/// Whether someone asked for the end.
pub fn requested() -> bool {
    SIGNALS.load(Ordering::SeqCst) > 0
}

/// # Errors
/// Someone asked for the end.
pub fn check() -> Result<()> {
    ensure!(!requested(), "interrupted");
    Ok(())
}

extern "C" fn notify(_signal: libc::c_int) {
    let byte = [0u8];
    // SAFETY: `write` is async-signal-safe, the buffer lives, and the descriptor is never closed.
    unsafe {
        libc::write(
            PIPE.load(Ordering::SeqCst),
            byte.as_ptr().cast(),
            byte.len(),
        )
    };
}

fn count_signals(mut pipe: File, patience: usize) {
    let mut byte = [0u8];
    while pipe.read_exact(&mut byte).is_ok() {
        if SIGNALS.fetch_add(1, Ordering::SeqCst) >= patience {
            leftovers::sweep_own_and_exit(INTERRUPTED);
        }
    }
}
