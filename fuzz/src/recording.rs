//! A file that somebody wants to have replayed: it ends, and does not panic.

use std::io::Cursor;

use spectrum_ebpf::parse::{Packet, parse};
use spectrum_user::recording;

pub fn run(file: &[u8]) {
    let mut packets = 0;
    let mut bytes = 0;
    let read = recording::read(Cursor::new(file.to_vec()), |recorded| {
        packets += 1;
        bytes += recorded.captured.len();
        assert_eq!(recorded.number, packets);
        parse(recorded.captured, &mut Packet::default());
        Ok(())
    });
    assert!(bytes <= file.len(), "each byte is in one packet at most");
    if let Err(error) = read {
        assert!(!error.to_string().is_empty());
    }
}
