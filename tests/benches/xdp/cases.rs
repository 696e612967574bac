//! What is measured: packets, and where each must end.

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};

use crate::frame::*;

pub(crate) const EDGE: &str = "192.0.2.1";
pub(crate) const EDGE_V6: &str = "2001:db8::1";
pub(crate) const CLIENT: &str = "100.64.0.9";
/// Of many.
const FIRST_CLIENT: &str = "100.64.0.0";
/// None of the many.
pub(crate) const OTHER_CLIENT: &str = "100.65.0.10";
pub(crate) const CLIENT_V6: &str = "2001:db8:c::9";
pub(crate) const BLOCKED: &str = "198.18.0.7";

/// A program and the bare drop that it is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sources {
    Same,
    Random,
    /// The same in each packet, of which the last answer is made a SYN again.
    Answered,
}

impl Sources {
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Same => "spectrum",
            Self::Random => "spectrum_vary",
            Self::Answered => "spectrum_again",
        }
    }

    pub(crate) const fn bare(self) -> &'static str {
        match self {
            Self::Same | Self::Answered => "bare_drop",
            Self::Random => "bare_drop_vary",
        }
    }
}

/// A packet, and the counter in which it must end (nearly always, where sources are random):
/// `passed`, `challenged`, or the reason of its drop.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) sources: Sources,
    pub(crate) frame: Vec<u8>,
    pub(crate) ends_in: &'static str,
    /// At most this many times a bare drop.
    pub(crate) goal: Option<f64>,
    /// How many TCP connections have proved themselves, the packet's own first: their sources follow
    /// one another.
    pub(crate) verified: u32,
}

pub(crate) fn case(name: &'static str, frame: Vec<u8>, ends_in: &'static str) -> Case {
    Case {
        name,
        sources: Sources::Same,
        frame,
        ends_in,
        goal: None,
        verified: 0,
    }
}

fn random_source(name: &'static str, frame: Vec<u8>) -> Case {
    Case {
        sources: Sources::Random,
        ..case(name, frame, "passed")
    }
}

fn random(name: &'static str, frame: Vec<u8>, goal: f64) -> Case {
    Case {
        goal: Some(goal),
        ..random_source(name, frame)
    }
}

/// Of sources that differ in so many bits.
fn flood(name: &'static str, frame: Vec<u8>, bits: u8, ends_in: &'static str, goal: f64) -> Case {
    // Where the program that varies them looks for their number.
    let identification = IP + 5;
    Case {
        ends_in,
        ..random(name, with(frame, identification, bits), goal)
    }
}

/// What Linux sends.
fn syn_with_options(port: u16) -> Vec<u8> {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, Timestamp, WindowScale,
    };
    let mut header = TcpHeader::new(CLIENT_PORT, port, 1, 64_240);
    header.syn = true;
    let options = [
        MaximumSegmentSize(1460),
        SelectiveAcknowledgementPermitted,
        Timestamp(1, 0),
        Noop,
        WindowScale(7),
    ];
    header.set_options(&options).unwrap();
    let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let segment = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(ip(CLIENT), ip(EDGE), 64)
        .tcp_header(header);
    let mut frame = Vec::new();
    segment.write(&mut frame, &[]).unwrap();
    frame
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "pass: not for an edge address",
            syn(CLIENT, "192.0.2.200", 80),
            "passed",
        ),
        case(
            "pass: TCP data to an app",
            tcp(CLIENT, EDGE, 80, ACK | PSH),
            "passed",
        ),
        case("pass: UDP to an app", udp(CLIENT, EDGE, 7000), "passed"),
        case(
            "pass: the same over IPv6",
            udp(CLIENT_V6, EDGE_V6, 7000),
            "passed",
        ),
        case(
            "pass: the same under a VLAN tag",
            tagged(udp(CLIENT, EDGE, 7000), 0x8100),
            "passed",
        ),
        case(
            "pass: TCP data with rates on",
            tcp(CLIENT, EDGE, 90, ACK | PSH),
            "passed",
        ),
        Case {
            goal: Some(8.0),
            ..case(
                "pass: UDP with rates on and 16 signatures in 4 masks",
                udp(CLIENT, EDGE, 9000),
                "passed",
            )
        },
        case(
            "pass: an allowed source",
            syn("203.0.113.5", EDGE, 22),
            "passed",
        ),
        Case {
            goal: Some(2.3),
            ..case("drop: blocked address", syn(BLOCKED, EDGE, 80), "blocked")
        },
        Case {
            goal: Some(2.3),
            ..case(
                "drop: blocked prefix",
                syn("198.19.7.7", EDGE, 80),
                "blocked",
            )
        },
        case(
            "drop: blocked IPv6 address",
            syn("2001:db8:bad::7", EDGE_V6, 80),
            "blocked",
        ),
        random_source(
            "pass: TCP data of random sources, not for an edge address",
            tcp(CLIENT, "192.0.2.200", 80, ACK | PSH),
        ),
        random_source(
            "pass: UDP of random unlisted sources",
            udp(CLIENT, EDGE, 7000),
        ),
        random(
            "pass: random unlisted sources",
            tcp(CLIENT, EDGE, 80, ACK | PSH),
            2.5,
        ),
        random(
            "pass: random unlisted sources, IPv6",
            tcp(CLIENT_V6, EDGE_V6, 80, ACK | PSH),
            2.5,
        ),
        random_source(
            "pass: random sources with rates on",
            tcp(CLIENT, EDGE, 90, ACK | PSH),
        ),
        random_source(
            "pass: random sources, by country",
            tcp(CLIENT, EDGE, 10_001, ACK | PSH),
        ),
        random(
            "pass: random sources, by country, with rates on and 16 signatures in 4 masks",
            udp(CLIENT, EDGE, 9500),
            8.0,
        ),
        case(
            "drop: not on the allowlist",
            syn(CLIENT, EDGE, 22),
            "not_allowed",
        ),
        case(
            "drop: SYN to a closed port",
            syn(CLIENT, EDGE, 9),
            "closed_port",
        ),
        case(
            "drop: UDP to a closed port",
            udp(CLIENT, EDGE, 9),
            "closed_port",
        ),
        case(
            "drop: reflector",
            udp_from(CLIENT, 53, EDGE, 7000),
            "reflector",
        ),
        case(
            "drop: fragment",
            fragment(udp(CLIENT, EDGE, 7000), 0, true),
            "fragment",
        ),
        case(
            "drop: over the packet rate",
            tcp(CLIENT, EDGE, 91, ACK),
            "packet_rate",
        ),
        case("drop: over the SYN rate", syn(CLIENT, EDGE, 92), "syn_rate"),
        case(
            "pass: UDP of a known source under a ceiling",
            udp(CLIENT, EDGE, 9400),
            "passed",
        ),
        flood(
            "drop: above the ceiling, 1,024 random sources",
            udp(CLIENT, EDGE, 9400),
            10,
            "ceiling",
            5.0,
        ),
        flood(
            "drop: above the ceiling, 65,536 random sources",
            udp(CLIENT, EDGE, 9400),
            16,
            "ceiling",
            5.0,
        ),
        flood(
            "drop: above the ceiling, 16,777,216 random sources",
            udp(CLIENT, EDGE, 9400),
            24,
            "ceiling",
            5.0,
        ),
        flood(
            "drop: SYNs above the ceiling, 16,777,216 random sources",
            syn(CLIENT, EDGE, 93),
            24,
            "ceiling",
            5.0,
        ),
        flood(
            "drop: no TCP session, 16,777,216 random sources",
            udp(CLIENT, EDGE, 9401),
            24,
            "no_tcp_session",
            5.0,
        ),
        case(
            "drop: custom rule, the last of 16 in 4 masks",
            udp_from(CLIENT, 1003, EDGE, 9000),
            "custom_rule",
        ),
        Case {
            goal: Some(3.0),
            verified: 1,
            ..case(
                "pass: TCP data of a verified connection",
                tcp(CLIENT, EDGE, 94, ACK | PSH),
                "passed",
            )
        },
        Case {
            verified: 1 << 16,
            ..flood(
                "pass: TCP data of 65,536 verified connections",
                tcp(FIRST_CLIENT, EDGE, 94, ACK | PSH),
                16,
                "passed",
                3.0,
            )
        },
        Case {
            sources: Sources::Answered,
            goal: Some(25.0),
            ..case(
                "answer: SYN with a cookie",
                syn_with_options(95),
                "challenged",
            )
        },
        Case {
            goal: Some(9.0),
            ..case(
                "drop: ACK of no connection",
                tcp(OTHER_CLIENT, EDGE, 94, ACK),
                "out_of_state",
            )
        },
        case(
            "drop: impossible flags",
            tcp(CLIENT, EDGE, 80, SYN | FIN),
            "tcp_flags",
        ),
        case(
            "drop: malformed",
            with(syn(CLIENT, EDGE, 80), IP, 0x44),
            "malformed",
        ),
        case("drop: martian", syn("127.0.0.1", EDGE, 80), "martian"),
    ]
}
