//! Lines of the log about single packets, as the program writes them (aya-log).
//!
//! They exist for a daemon whose log takes [`PACKET_LOG`] at level `trace`, and are no part of what
//! is pinned: a successor loads a program with a level, and a ring buffer, of its own.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd as _,
    thread,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
pub(super) use aya_log::LEVEL;
use log::Log;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use spectrum_common::maps::PACKET_LOG;

use super::error::Error;

/// Whether the log takes lines about single packets.
pub(super) fn is_wanted() -> bool {
    log::log_enabled!(target: PACKET_LOG, log::Level::Trace)
}

/// The level that a program is loaded with. If it is off, the verifier removes what would write.
pub(super) const fn level(is_on: bool) -> &'static u8 {
    const OFF: u8 = 0;
    const TRACE: u8 = aya_log::Level::Trace as u8;
    if is_on { &TRACE } else { &OFF }
}

const CANNOT_START: &str = "cannot start the log of packets";

/// Brings what a program writes to the log, until it is dropped.
pub(super) struct PacketLog {
    _until_dropped: PipeWriter,
}

impl PacketLog {
    pub(super) fn start(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let logger = EbpfLogger::init(ebpf)?;
        let (dropped, until_dropped) = io::pipe().map_err(Error::system(CANNOT_START))?;
        // A thread of its own, which nobody waits for: under a flood, one flush has no end.
        thread::Builder::new()
            .name("packet-log".to_owned())
            .spawn(move || follow(logger, &dropped))
            .map_err(Error::system(CANNOT_START))?;
        Ok(Self {
            _until_dropped: until_dropped,
        })
    }
}

/// Writes lines until the other end of `dropped` is closed.
fn follow(mut logger: EbpfLogger<&'static dyn Log>, dropped: &PipeReader) {
    loop {
        let mut events = [
            PollFd::new(logger.as_fd(), PollFlags::POLLIN),
            PollFd::new(dropped.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                log::error!("cannot read the log of packets any more: {error}");
                return;
            }
        }
        let [_, dropped] = events;
        if dropped.any() == Some(true) {
            return;
        }
        logger.flush();
    }
}
