//! Whether an echo comes back byte for byte.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    panic::resume_unwind,
    thread,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Job, Load, connect};

/// Sends bytes that differ by position to an echo server, in pieces of many sizes, and compares
/// what comes back at the same time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// A [`Server::Echo`](super::Server::Echo).
    pub to: SocketAddr,
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CheckReport {
    /// Compared, and equal.
    pub bytes: usize,
}

impl From<Check> for Job {
    fn from(load: Check) -> Self {
        Self::Check(load)
    }
}

impl Load for Check {
    type Report = CheckReport;

    /// # Errors
    /// Names the first byte that differs, or how much was missing.
    fn run(&self) -> Result<CheckReport> {
        let stream = connect(self.to)?;
        let (mut to, mut from) = (&stream, &stream);
        thread::scope(|scope| {
            let sender = scope.spawn(move || send(&mut to, self.bytes));
            compare(&mut from, self.bytes)?;
            sender
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
                .context("cannot send")
        })?;
        Ok(CheckReport { bytes: self.bytes })
    }
}

fn send(to: &mut impl Write, total: usize) -> std::io::Result<()> {
    let mut sizes = [1, 7, 1448, 64, 65_536, 300_000].into_iter().cycle();
    let mut sent = 0;
    while sent < total {
        let size = sizes.next().unwrap_or(1).min(total - sent);
        let piece: Vec<u8> = (sent..sent + size).map(pattern).collect();
        to.write_all(&piece)?;
        sent += size;
    }
    Ok(())
}

fn compare(from: &mut impl Read, total: usize) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut compared = 0;
    while compared < total {
        let room = buffer.len().min(total - compared);
        let received = from
            .read(buffer.get_mut(..room).unwrap_or_default())
            .with_context(|| format!("nothing more after {compared} of {total} bytes"))?;
        if received == 0 {
            bail!("closed after {compared} of {total} bytes");
        }
        for (position, &byte) in (compared..).zip(buffer.iter().take(received)) {
            let expected = pattern(position);
            if byte != expected {
                bail!("byte {position} is {byte:#04x}, should be {expected:#04x}");
            }
        }
        compared += received;
    }
    Ok(())
}

/// The byte at a position. The period is prime, so that no buffer of a usual size, lost, doubled or
/// swapped with its neighbour, goes unnoticed.
#[expect(clippy::cast_possible_truncation, reason = "it is less than 251")]
fn pattern(position: usize) -> u8 {
    (position % 251) as u8
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Echoes one connection, after `meddle` had its way with all that was received.
    fn echo_once(bytes: usize, meddle: fn(&mut Vec<u8>)) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = vec![0; bytes];
            stream.read_exact(&mut all).unwrap();
            meddle(&mut all);
            stream.write_all(&all).unwrap();
        });
        address
    }

    fn check(meddle: fn(&mut Vec<u8>)) -> Result<CheckReport> {
        let bytes = 400_000;
        let to = echo_once(bytes, meddle);
        Check { to, bytes }.run()
    }

    #[test]
    fn an_honest_echo_passes() {
        assert_eq!(check(|_| ()).unwrap().bytes, 400_000);
    }

    #[test]
    fn a_corrupted_byte_is_found_and_named() {
        let error = check(|all| all[123_456] ^= 1).unwrap_err().to_string();
        assert!(error.contains("byte 123456 is"), "{error}");
    }

    #[test]
    fn a_lost_or_swapped_buffer_is_found() {
        let lost = check(|all| {
            all.drain(65_536..131_072);
        });
        assert!(lost.unwrap_err().to_string().contains("byte 65536 is"));
        let swapped = check(|all| all[..8192].rotate_left(4096));
        assert!(swapped.unwrap_err().to_string().contains("byte 0 is"));
    }

    #[test]
    fn missing_bytes_are_counted() {
        let error = check(|all| all.truncate(399_999)).unwrap_err().to_string();
        assert!(error.contains("399999 of 400000"), "{error}");
    }
}
