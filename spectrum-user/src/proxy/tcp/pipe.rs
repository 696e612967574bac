//! Pipes through which bytes go from socket to socket without being copied, and their pool.
//!
//! Each worker has a pool of its own. A direction leases a pipe only while there are bytes in it.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::pipe2,
};

/// Bytes that a pipe should hold: fewer mean more system calls per byte. In order of preference;
/// an unprivileged process gets less when it has many pipes (`fs.pipe-user-pages-soft`).
const CAPACITIES: [i32; 2] = [1024 * 1024, 256 * 1024];
/// The most that one may hold.
pub(super) const LARGEST: usize = 1024 * 1024;
/// A pipe that holds less is not worth while.
const LEAST_CAPACITY: usize = 64 * 1024;
/// Pipes of a worker, in use or not. Beyond, bytes are copied.
const MOST: usize = 256;
/// Pipes that a worker keeps while nobody uses them.
const SPARE: usize = 16;
/// Leases that are refused after the kernel has refused a pipe, before it is asked again.
const REFUSED: u32 = 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

struct Pool {
    spare: Vec<Pipe>,
    leased: usize,
    /// Leases still to refuse.
    refusing: u32,
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
    /// Bytes in it.
    held: usize,
}

/// An empty pipe at first; goes back to the pool on drop.
#[derive(Debug)]
pub(super) struct Lease(Option<Pipe>);

/// `None` if no pipe is to be had: then copy.
pub(super) fn lease() -> Option<Lease> {
    POOL.with_borrow_mut(Pool::take)
        .map(|pipe| Lease(Some(pipe)))
}

impl Lease {
    /// Moves what `from` has into the pipe, which must be empty: else "no room" could not be told
    /// from "nothing to read". Not more than `most` bytes, which is not 0. 0 = `from` has closed.
    pub(super) fn fill(&mut self, from: &impl AsFd, most: usize) -> io::Result<usize> {
        let Some(pipe) = &mut self.0 else {
            return Ok(0);
        };
        let most = most.min(pipe.capacity);
        let moved = splice(from, None, &pipe.writer, None, most, flags())?;
        pipe.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds to `to`, as far as it takes it.
    pub(super) fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &mut self.0 else {
            return Ok(0);
        };
        // To ask for more than there is would make the kernel wait for more before it sends.
        let moved = splice(&pipe.reader, None, to, None, pipe.held, flags())?;
        pipe.held = pipe.held.saturating_sub(moved);
        Ok(moved)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|pipe| pipe.held == 0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take() {
            // When the thread ends, the pool may be gone before the last connection.
            let _ = POOL.try_with(|pool| pool.borrow_mut().give_back(pipe));
        }
    }
}

impl Pool {
    const fn new() -> Self {
        Self {
            spare: Vec::new(),
            leased: 0,
            refusing: 0,
        }
    }

    fn take(&mut self) -> Option<Pipe> {
        let pipe = match self.spare.pop() {
            Some(pipe) => pipe,
            None if self.leased >= MOST => return None,
            None if self.refusing > 0 => {
                self.refusing -= 1;
                return None;
            }
            None => match Pipe::new() {
                Ok(pipe) => pipe,
                Err(error) => {
                    log::debug!("no pipe, bytes are copied instead: {error}");
                    self.refusing = REFUSED;
                    return None;
                }
            },
        };
        self.leased += 1;
        Some(pipe)
    }

    /// One with bytes in it belongs to a connection that was cut; it is closed.
    fn give_back(&mut self, pipe: Pipe) {
        self.leased -= 1;
        if pipe.held == 0 && self.spare.len() < SPARE {
            self.spare.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let wider = CAPACITIES
            .iter()
            .any(|&size| fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)).is_ok());
        let capacity = fcntl(&writer, FcntlArg::F_GETPIPE_SZ)?;
        let capacity = usize::try_from(capacity).unwrap_or_default();
        if !wider && capacity < LEAST_CAPACITY {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self {
            reader,
            writer,
            capacity,
            held: 0,
        })
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
