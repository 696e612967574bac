#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use super::*;

fn ends(client: &str, edge: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        edge: edge.parse().unwrap(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// The bytes that origins in the field expect.
#[test]
fn headers_are_the_documented_bytes() {
    let v4 = ends("192.0.2.1:56324", "198.51.100.7:443");
    let v6 = ends("[2001:db8::1]:65535", "[2001:db8::2]:22");
    assert_eq!(
        &*encode_v1(&v4),
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    );
    assert_eq!(
        &*encode_v1(&v6),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 22\r\n"
    );
    assert_eq!(
        &*encode_v2(&v4, Transport::Tcp),
        hex("0d0a0d0a000d0a515549540a 21 11 000c c0000201 c6336407 dc04 01bb")
    );
    assert_eq!(
        &*encode_v2(&v6, Transport::Udp),
        hex("0d0a0d0a000d0a515549540a 21 22 0024 \
             20010db8000000000000000000000001 20010db8000000000000000000000002 ffff 0016")
    );
    assert_eq!(
        &*encode_simple(&v4),
        hex("56ec 00000000000000000000ffffc0000201 \
             00000000000000000000ffffc6336407 dc04 01bb")
    );
    assert_eq!(encode_simple(&v6).len(), SIMPLE_LENGTH);
}

#[test]
fn the_longest_addresses_fit_into_v1() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let both = ends(&format!("[{longest}]:65535"), &format!("[{longest}]:65535"));
    let header = encode_v1(&both);
    assert!(header.ends_with(b" 65535 65535\r\n"), "{header:?}");
    assert_eq!(parse_v1(&header), Ok((Some(both), header.len())));
}

/// What HAProxy refuses, we refuse: a header that two readers understand differently lets a client
/// choose its address.
#[test]
fn v1_is_parsed_as_strictly_as_by_haproxy() {
    const GOOD: Ends = Ends {
        client: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)), 5),
        edge: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(6, 7, 8, 9)), 10),
    };
    let table: &[(&str, Option<Option<Ends>>)] = &[
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n", Some(Some(GOOD))),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\nGET /", Some(Some(GOOD))),
        ("PROXY UNKNOWN\r\n", Some(None)),
        ("PROXY UNKNOWN ffff:: :: 1 2\r\n", Some(None)),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 +5 10\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 05 10\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 00\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 65536\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 -1\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 \r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10 \r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10 11\r\n", None),
        ("PROXY TCP4 1.2.3.4  6.7.8.9 5 10\r\n", None),
        ("PROXY  TCP4 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY TCP4 01.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY TCP4 1.2.3 6.7.8.9 5 10\r\n", None),
        ("PROXY TCP4 ::1 ::2 5 10\r\n", None),
        ("PROXY TCP6 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY TCP5 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY tcp4 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("proxy TCP4 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY\tTCP4 1.2.3.4 6.7.8.9 5 10\r\n", None),
        ("PROXY \r\n", None),
    ];
    for (text, expected) in table {
        let parsed = parse_v1(text.as_bytes());
        match expected {
            Some(ends) => {
                let length = text.find('\n').unwrap() + 1;
                assert_eq!(parsed, Ok((*ends, length)), "{text:?}");
            }
            None => assert!(matches!(parsed, Err(ParseError::Invalid(_))), "{text:?}"),
        }
    }
    assert_eq!(parse_v1(b""), Err(ParseError::Incomplete));
    assert_eq!(parse_v1(b"PROX"), Err(ParseError::Incomplete));
    assert_eq!(
        parse_v1(b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r"),
        Err(ParseError::Incomplete)
    );
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
    assert!(matches!(parse_v1(&endless), Err(ParseError::Invalid(_))));
}

#[test]
fn v2_is_parsed_as_strictly_as_by_haproxy() {
    const SIGNATURE: &str = "0d0a0d0a000d0a515549540a";
    const ADDRESSES: &str = "01020304 06070809 0005 000a";
    let good = ends("1.2.3.4:5", "6.7.8.9:10");
    // After the signature; `None` is a refusal.
    let table: &[(&str, String, Option<Option<Ends>>)] = &[
        ("plain", format!("21 11 000c {ADDRESSES}"), Some(Some(good))),
        ("local", "20 00 0000".into(), Some(None)),
        ("local with a body", "20 11 0003 ffffff".into(), Some(None)),
        (
            "NOOP TLV",
            format!("21 11 000f {ADDRESSES} 04 0000"),
            Some(Some(good)),
        ),
        (
            "unknown TLV",
            format!("21 11 0011 {ADDRESSES} ea 0002 aaaa"),
            Some(Some(good)),
        ),
        ("version 1", format!("11 11 000c {ADDRESSES}"), None),
        ("command 2", format!("22 11 000c {ADDRESSES}"), None),
        ("UNSPEC", "21 00 0000".into(), None),
        ("UDP to TCP", format!("21 12 000c {ADDRESSES}"), None),
        ("UNIX", format!("21 31 000c {ADDRESSES}"), None),
        (
            "short addresses",
            "21 11 000b 01020304 06070809 0005 00".into(),
            None,
        ),
        (
            "IPv4 sizes as IPv6",
            format!("21 21 000c {ADDRESSES}"),
            None,
        ),
        (
            "TLV without length",
            format!("21 11 000d {ADDRESSES} 04"),
            None,
        ),
        (
            "TLV too long",
            format!("21 11 000f {ADDRESSES} 04 0001"),
            None,
        ),
        (
            "CRC32C of wrong size",
            format!("21 11 0011 {ADDRESSES} 03 0002 0000"),
            None,
        ),
        (
            "wrong CRC32C",
            format!("21 11 0013 {ADDRESSES} 03 0004 00000000"),
            None,
        ),
    ];
    for (name, text, expected) in table {
        let bytes = hex(&format!("{SIGNATURE}{text}"));
        let parsed = parse_v2(&bytes, Transport::Tcp);
        match expected {
            Some(ends) => assert_eq!(parsed, Ok((*ends, bytes.len())), "{name}"),
            None => assert!(matches!(parsed, Err(ParseError::Invalid(_))), "{name}"),
        }
    }
}

#[test]
fn a_right_crc32c_is_accepted() {
    // RFC 3720, B.4: 32 bytes of zeros.
    assert_eq!(crc32c(&[0; 32], 0..0), 0x8a91_36aa);
    let mut bytes = hex("0d0a0d0a000d0a515549540a 21 11 0013 \
                         01020304 06070809 0005 000a 03 0004 00000000");
    let sum = crc32c(&bytes, 0..0);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    assert!(parse_v2(&bytes, Transport::Tcp).is_ok());
    bytes[17] ^= 1;
    assert!(parse_v2(&bytes, Transport::Tcp).is_err());
}

fn any_ends() -> impl Strategy<Value = Ends> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(client, p, edge, q)| Ends {
        client: SocketAddr::new(client.into(), p),
        edge: SocketAddr::new(edge.into(), q),
    });
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(client, p, edge, q)| Ends {
        client: SocketAddr::new(client.into(), p),
        edge: SocketAddr::new(edge.into(), q),
    });
    prop_oneof![v4, v6]
}

proptest! {
    /// What we say is what an origin hears, also in pieces and with a payload behind it.
    #[test]
    fn round_trips(ends in any_ends(), payload: Vec<u8>) {
        for (header, transport) in [
            (encode_v1(&ends), None),
            (encode_v2(&ends, Transport::Tcp), Some(Transport::Tcp)),
            (encode_v2(&ends, Transport::Udp), Some(Transport::Udp)),
        ] {
            let parse = |bytes: &[u8]| match transport {
                None => parse_v1(bytes),
                Some(transport) => parse_v2(bytes, transport),
            };
            let whole = [&*header, &payload].concat();
            prop_assert_eq!(parse(&whole), Ok((Some(ends), header.len())));
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Err(ParseError::Incomplete));
            }
        }
        let simple = encode_simple(&ends);
        let whole = [&*simple, &payload].concat();
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        prop_assert_eq!(
            parse_simple(&whole),
            Ok(Ends { client: canonical(ends.client), edge: canonical(ends.edge) })
        );
        for cut in 0..simple.len() {
            prop_assert!(parse_simple(&simple[..cut]).is_err());
        }
    }

    #[test]
    fn nothing_makes_a_parser_panic(mut bytes: Vec<u8>, prefix in 0..4) {
        let start: &[u8] = match prefix {
            0 => b"PROXY TCP4 ",
            1 => &V2_SIGNATURE,
            2 => &SIMPLE_MAGIC,
            _ => b"",
        };
        bytes.splice(0..0, start.iter().copied());
        let _ = parse_v1(&bytes);
        let _ = parse_v2(&bytes, Transport::Tcp);
        let _ = parse_v2(&bytes, Transport::Udp);
        let _ = parse_simple(&bytes);
    }
}
