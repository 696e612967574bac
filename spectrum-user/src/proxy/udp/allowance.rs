//! What a client may be sent before it has proved to be real: a multiple of what it has sent. Who
//! forges its address gains no more than that by sending to us instead of to the victim. (QUIC does
//! the same, RFC 9000 section 8.)

use std::cell::Cell;

use super::datagrams::Datagrams;

/// What the headers of IP and UDP add to a datagram, at the least.
const HEADERS: u64 = 28;

#[derive(Debug)]
pub(super) struct Allowance {
    ratio: u64,
    left: Cell<u64>,
}

impl Allowance {
    pub(super) fn new(ratio: u32) -> Self {
        Self {
            ratio: ratio.into(),
            left: Cell::new(0),
        }
    }

    /// The same with so many bytes left.
    pub(super) fn with(ratio: u32, left: u64) -> Self {
        Self {
            ratio: ratio.into(),
            left: Cell::new(left),
        }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// The client has sent these.
    pub(super) fn earn(&self, datagrams: Datagrams<'_>) {
        let earned = cost(datagrams) * self.ratio;
        self.left.set(self.left.get().saturating_add(earned));
    }

    /// How many of these it may be sent, from the first one on; they count as sent.
    pub(super) fn spend(&self, datagrams: Datagrams<'_>) -> usize {
        let mut granted = 0;
        for datagram in datagrams.each() {
            let Some(left) = self.left.get().checked_sub(cost(datagram)) else {
                break;
            };
            self.left.set(left);
            granted += 1;
        }
        granted
    }
}

/// Bytes of IP packets.
fn cost(datagrams: Datagrams<'_>) -> u64 {
    datagrams.bytes.len() as u64 + datagrams.count() as u64 * HEADERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8], size: usize) -> Datagrams<'_> {
        Datagrams {
            bytes,
            size,
            ecn: None,
        }
    }

    #[test]
    fn answers_are_bounded_by_what_was_asked() {
        let allowance = Allowance::new(3);
        assert_eq!(allowance.spend(run(b"", 0)), 0, "nothing was asked");
        // 128 bytes with headers, so that 384 may be sent.
        allowance.earn(run(&[0; 100], 100));
        assert_eq!(allowance.spend(run(&[0; 1000], 100)), 3);
        assert_eq!(allowance.spend(run(b"", 0)), 0);
        allowance.earn(run(b"", 0));
        assert_eq!(allowance.spend(run(&[0; 56], 56)), 1);
        assert_eq!(allowance.spend(run(b"", 0)), 0);
    }

    #[test]
    fn each_datagram_of_a_run_has_headers() {
        let allowance = Allowance::new(1);
        allowance.earn(run(&[0; 25], 10));
        assert_eq!(allowance.spend(run(&[0; 30], 10)), 2);
    }
}
