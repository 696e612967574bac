#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

use super::*;

/// What a client of today sends first.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    client.write_tls(&mut sent).unwrap();
    sent
}

/// The same message in records of at most `length` bytes.
fn in_records(hello: &[u8], length: usize) -> Vec<u8> {
    let fragments = hello[5..].chunks(length);
    let record = |fragment: &[u8]| {
        let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], &length[..], fragment].concat()
    };
    fragments.flat_map(record).collect()
}

fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A handshake of Minecraft Java 1.21, which wants the status.
fn handshake(address: &[u8]) -> Vec<u8> {
    let packet = [
        &[0][..],
        &variable(767),
        &variable(address.len()),
        address,
        &25565_u16.to_be_bytes(),
        &[1],
    ]
    .concat();
    [variable(packet.len()), packet].concat()
}

fn named(name: &str) -> Result<Option<String>, Unread> {
    Ok(Some(name.to_owned()))
}

#[test]
fn a_tls_client_names_its_server() {
    let hello = hello("www.example.com");
    assert_eq!(of_tls(&hello), named("www.example.com"));
    // Whatever comes behind it.
    assert_eq!(
        of_tls(&[&hello[..], b"more"].concat()),
        named("www.example.com")
    );
    // No name goes with an address.
    assert_eq!(of_tls(&self::hello("192.0.2.1")), Ok(None));
}

#[test]
fn a_minecraft_client_names_its_server() {
    assert_eq!(
        of_minecraft(&handshake(b"Play.Example.com")),
        named("play.example.com")
    );
    assert_eq!(
        of_minecraft(&handshake(b"play.example.com.")),
        named("play.example.com")
    );
    assert_eq!(
        of_minecraft(&handshake(b"play.example.com\0FML3\0")),
        named("play.example.com")
    );
    assert_eq!(of_minecraft(&handshake(b"::1")), named("::1"));
    assert_eq!(of_minecraft(&handshake(b"")), Ok(None));
    let login = [&handshake(b"a.example")[..], &[5, 0, 3, b'b', b'o', b'b']].concat();
    assert_eq!(of_minecraft(&login), named("a.example"));
    // The ping of 1.6.
    assert_eq!(of_minecraft(b"\xfe\x01\xfa\0\x0b\0M\0C"), Ok(None));
}

#[test]
fn what_is_neither_is_known_at_once() {
    let invalid = |read: Result<Option<String>, Unread>| matches!(read, Err(Invalid(_)));
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x02",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        // A ServerHello, and a hello of 16 MB.
        b"\x16\x03\x01\0\x10\x02",
        b"\x16\x03\x01\0\x10\x01\xff\xff\xff",
    ] {
        assert!(invalid(of_tls(bytes)), "{bytes:?}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        // Another packet; a long one; a number without an end; a handshake with more behind it.
        &[3, 1, 2, 3],
        &[0xff, 0xff, 0x7f],
        &[0x80; 6],
        &[8, 0, 0, 1, b'a', 0, 0, 1, 1],
        &[5, 0, 0, 9, b'a', 0],
        &handshake(b"a b"),
        &handshake(&[b'a'; 256]),
    ] {
        assert!(invalid(of_minecraft(bytes)), "{bytes:?}");
    }
}

proptest! {
    /// However a hello is cut into records, and wherever the bytes end that have come so far.
    #[test]
    fn a_hello_in_pieces_is_the_same_hello(
        name in "[a-z]{1,20}(\\.[a-z0-9]{1,20}){1,5}",
        length in 1_usize..600,
        cut in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!name.ends_with(|last: char| last.is_ascii_digit()));
        let sent = in_records(&hello(&name), length);
        prop_assert_eq!(of_tls(&sent), named(&name));
        prop_assert_eq!(of_tls(&sent[..cut.index(sent.len())]), Err(Incomplete));
    }

    #[test]
    fn a_handshake_in_pieces_is_the_same_handshake(
        name in "[a-z]{1,20}(\\.[a-z0-9]{1,20}){0,5}",
        cut in any::<prop::sample::Index>(),
    ) {
        let sent = handshake(name.as_bytes());
        prop_assert_eq!(of_minecraft(&sent), named(&name));
        prop_assert_eq!(of_minecraft(&sent[..cut.index(sent.len())]), Err(Incomplete));
    }

    /// What is said of a beginning still holds when more has come.
    #[test]
    fn more_bytes_change_no_verdict(
        bytes in prop_oneof![
            any::<Vec<u8>>(),
            (any::<Vec<u8>>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
                |(more, at, byte)| {
                    let mut sent = [hello("a.example"), more].concat();
                    let at = at.index(sent.len());
                    sent[at] = byte;
                    sent
                }
            ),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        let start = &bytes[..cut.index(bytes.len() + 1)];
        for read in [of_tls, of_minecraft] {
            let early = read(start);
            if early != Err(Incomplete) {
                prop_assert_eq!(read(&bytes), early);
            }
        }
    }

    /// Nobody is waited for beyond the bound.
    #[test]
    fn no_message_is_incomplete_for_ever(byte in any::<u8>(), record in 1_usize..=MAX_RECORD) {
        let endless = [&[22, 3, 1], &u16::try_from(record).unwrap().to_be_bytes()[..], &[1, 0, 0x3f, 0xff]];
        let mut endless = endless.concat();
        endless.resize(MAX_LENGTH, byte);
        prop_assert_ne!(of_tls(&endless), Err(Incomplete));
        prop_assert_ne!(of_minecraft(&endless), Err(Incomplete));
        let same = vec![byte; MAX_LENGTH];
        prop_assert_ne!(of_tls(&same), Err(Incomplete));
        prop_assert_ne!(of_minecraft(&same), Err(Incomplete));
    }
}
