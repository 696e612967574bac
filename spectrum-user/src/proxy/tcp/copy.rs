//! The buffer that all connections of a worker share while they copy.

use std::{cell::RefCell, io};

use nix::unistd;
use tokio::{io::Interest, net::TcpStream};

/// Large reads cost fewest system calls per byte; what is gained beyond this is little.
pub(in crate::proxy) const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Not to be nested.
pub(in crate::proxy) fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}

/// Like [`TcpStream::try_read`], but knows that a read that does not fill the buffer has emptied
/// the socket, and spares the next one, which would only say so.
pub(super) fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = None;
    let result = from.try_io(Interest::READABLE, || {
        let bytes = unistd::read(from, buffer)?;
        read = Some(bytes);
        if (1..buffer.len()).contains(&bytes) {
            // Tells the runtime that the socket is not readable, until the kernel says otherwise.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match (read, result) {
        (Some(bytes), _) => Ok(bytes),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
    }
}
