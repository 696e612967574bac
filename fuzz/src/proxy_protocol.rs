//! What a client or an origin puts in front of its data.

use spectrum_user::{
    config::Transport,
    proxy::proxy_protocol::{
        Ends, ParseError, SIMPLE_LENGTH, V1_MAX, encode_simple, encode_v1, encode_v2, parse_simple,
        parse_v1, parse_v2,
    },
};

type Parsed = Result<(Option<Ends>, usize), ParseError>;

pub fn run(bytes: &[u8]) {
    if let Some((ends, length)) = ends_where_it_says(bytes, parse_v1) {
        assert!(length <= V1_MAX);
        if let Some(ends) = ends {
            let again = encode_v1(&ends);
            assert_eq!(parse_v1(&again).ok(), Some((Some(ends), again.len())));
        }
    }
    for transport in [Transport::Tcp, Transport::Udp] {
        let parse = |bytes: &[u8]| parse_v2(bytes, transport);
        if let Some((Some(ends), _)) = ends_where_it_says(bytes, parse) {
            let again = encode_v2(&ends, transport);
            let (kept, length) = parse(&again).expect("we read what we write");
            assert_eq!(length, again.len());
            assert_eq!(kept.map(canonical), Some(canonical(ends)));
        }
    }
    if let Ok(ends) = parse_simple(bytes) {
        let again = encode_simple(&ends);
        assert_eq!(parse_simple(&again).ok(), Some(ends));
        assert_eq!(again[..], bytes[..SIMPLE_LENGTH]);
    }
}

/// A header ends where its own bytes say, however much of the stream has come: any beginning of it
/// is incomplete, and what follows it is the client's data.
fn ends_where_it_says(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Parsed,
) -> Option<(Option<Ends>, usize)> {
    let (ends, length) = parse(bytes).ok()?;
    for cut in [0, 1, length / 2, length - 1] {
        let beginning = parse(&bytes[..cut]);
        assert!(
            matches!(beginning, Err(ParseError::Incomplete)),
            "{beginning:?} of {cut} bytes"
        );
    }
    assert_eq!(parse(&bytes[..length]).ok(), Some((ends, length)));
    Some((ends, length))
}

fn canonical(ends: Ends) -> [(std::net::IpAddr, u16); 2] {
    [ends.client, ends.edge].map(|end| (end.ip().to_canonical(), end.port()))
}
