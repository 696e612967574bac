//! Numbers that nobody outside can guess.

use super::error::Error;

pub(super) fn number() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is as long as we say.
    let length = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(length) == Ok(bytes.len()) {
        return Ok(u64::from_ne_bytes(bytes));
    }
    Err(Error::System {
        action: "cannot get random bytes",
        source: std::io::Error::last_os_error(),
    })
}
