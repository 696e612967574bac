//! TCP's handshake and state, on a host that has sockets: SYNs that are answered, and segments that
//! belong to nothing.

mod strays;

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{
    Ethernet2Header, Ipv4Header, NetHeaders, PacketBuilder, PacketHeaders, TcpHeader,
    TcpOptionElement, TransportHeader,
};
use socket2::{Domain, Socket, Type};
use spectrum_common::reason::Reason::{Blocked, ClosedPort, Country, OutOfState};
use spectrum_user::{
    config::Mode,
    dataplane::lists::{self, Action},
};

use crate::{
    fixture::{
        Cell::{Challenged, Dropped, Monitored, Passed},
        EDGE, EDGE_V6, Fixture, PATIENT_ABOVE, WARY_ABOVE,
    },
    frame::*,
    host,
};

/// A host that has the addresses of the edge and of its clients.
pub(crate) struct Host {
    fixture: Fixture,
    /// That of the app `guarded`.
    listener: TcpListener,
}

type Play = fn(&mut Host) -> Result<()>;

pub(crate) const ALL: &[(&str, Play)] = &[
    ("challenge::the_answer_is_right", the_answer_is_right),
    (
        "challenge::the_answer_to_the_answer_passes",
        the_answer_passes,
    ),
    (
        "challenge::headers_in_between_hide_no_syn",
        headers_in_between,
    ),
    ("challenge::only_for_who_listens", only_for_who_listens),
    (
        "challenge::a_port_in_time_wait_can_be_used_again",
        time_wait,
    ),
    ("challenge::nobody_unless_listeners_are_marked", unmarked),
    ("challenge::begins_above_the_threshold", begins_above),
    (
        "out_of_state::what_belongs_to_nothing",
        strays::belongs_to_nothing,
    ),
    (
        "out_of_state::a_connection_passes",
        strays::a_connection_passes,
    ),
    (
        "out_of_state::a_handshake_passes",
        strays::a_handshake_passes,
    ),
    (
        "out_of_state::a_block_cuts_a_known_flow",
        strays::a_block_cuts,
    ),
    (
        "out_of_state::a_country_cuts_a_known_flow",
        strays::a_country_cuts,
    ),
    ("out_of_state::monitored", strays::out_of_state_monitored),
    ("out_of_state::a_few_may_pass", strays::a_few_may_pass),
    (
        "out_of_state::replies_to_the_hosts_own_connections",
        strays::replies,
    ),
];

const GUARDED: u16 = 82;
const WARY: u16 = 83;
const LENIENT: u16 = 84;
const PATIENT: u16 = 97;
const CLIENT: &str = "100.64.0.9";
const CLIENT_V6: &str = "2001:db8:c::9";
const CLIENT_PORT: u16 = 40_000;

/// Plays on a host of its own, whose apps listen and are marked.
pub(crate) fn on_a_host(play: Play) -> Result<()> {
    let play = || {
        host::enter(&[EDGE, CLIENT, EDGE_V6, CLIENT_V6])?;
        let listen = |port: u16| TcpListener::bind((IpAddr::from([0_u16; 8]), port));
        let listener = listen(GUARDED)?;
        let _others = [listen(WARY)?, listen(LENIENT)?];
        let mut fixture = Fixture::new(Mode::Enforce)?;
        fixture.filter().set_terms(Some(&host::TERMS))?;
        mark(&mut fixture)?;
        play(&mut Host { fixture, listener })
    };
    thread::scope(|scope| match scope.spawn(play).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn mark(fixture: &mut Fixture) -> Result<()> {
    let mut listeners = Vec::new();
    for port in [GUARDED, WARY, LENIENT] {
        for address in ["0.0.0.0", "::"] {
            listeners.push(SocketAddr::new(address.parse()?, port));
        }
    }
    let marked = fixture.filter().mark_listeners(&listeners)?;
    ensure!(marked == listeners.len(), "{marked} of {listeners:?}");
    Ok(())
}

/// Both families: client and edge.
const WAYS: [(&str, &str); 2] = [(CLIENT, EDGE), (CLIENT_V6, EDGE_V6)];

const SEQUENCE: u32 = 0xffff_ffff;
const STAMP: u32 = 0x0bad_cafe;

/// A TCP segment with options, and any further bytes.
fn segment(from: &str, to: &str, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    let segment = ip.tcp_header(header.clone());
    segment.write(&mut frame, payload).expect("a frame");
    frame
}

fn syn_header(options: &[TcpOptionElement]) -> TcpHeader {
    let mut header = TcpHeader::new(CLIENT_PORT, GUARDED, SEQUENCE, 64_240);
    header.syn = true;
    header.ece = true;
    header.cwr = true;
    header.set_options(options).expect("they fit");
    header
}

/// What Linux asks for, what Windows does, and the least.
fn wishes() -> [Vec<TcpOptionElement>; 4] {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted as Sack, Timestamp, WindowScale,
    };
    [
        vec![
            MaximumSegmentSize(1460),
            Sack,
            Timestamp(STAMP, 0),
            Noop,
            WindowScale(9),
        ],
        vec![
            MaximumSegmentSize(1460),
            Noop,
            WindowScale(8),
            Noop,
            Noop,
            Sack,
        ],
        vec![Noop, Noop, Timestamp(STAMP, 0)],
        vec![],
    ]
}

/// The frame that should come back: what is not known (cookie and clock) is taken from `answer`.
fn expected(way: (&str, &str), wish: &[TcpOptionElement], answer: &[u8]) -> Result<Vec<u8>> {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted as Sack, Timestamp, WindowScale,
    };
    let (client, edge) = way;
    let is_ipv4 = client == CLIENT;
    let theirs = tcp_of(answer)?;
    let has = |wanted: fn(&TcpOptionElement) -> bool| wish.iter().any(wanted);
    let stamps = has(|option| matches!(option, Timestamp(..)));
    let scales = stamps && has(|option| matches!(option, WindowScale(_)));
    let sack = stamps && has(|option| matches!(option, Sack));
    let mut options = vec![MaximumSegmentSize(if is_ipv4 { 1460 } else { 1440 })];
    if stamps {
        let bits = if scales { 9 } else { 15 } + if sack { 16 } else { 0 } + 32;
        let stamp = theirs.options_iterator().flatten().find_map(|option| {
            let Timestamp(value, _) = option else {
                return None;
            };
            Some(value)
        });
        let stamp = stamp.context("no timestamp")?;
        ensure!(
            stamp % 64 == bits,
            "options {} packed as {}",
            bits,
            stamp % 64
        );
        options.extend(if sack { vec![Sack] } else { vec![Noop, Noop] });
        options.push(Timestamp(stamp, STAMP));
    }
    if scales {
        options.extend([Noop, WindowScale(7)]);
    }
    let mut header = TcpHeader::new(GUARDED, CLIENT_PORT, theirs.sequence_number, 0);
    header.syn = true;
    header.ack = true;
    header.ece = stamps;
    header.acknowledgment_number = SEQUENCE.wrapping_add(1);
    // Whole segments of what the cookie stands for.
    let asked = has(|option| matches!(option, MaximumSegmentSize(_)));
    let of_segment = match (asked, is_ipv4) {
        (true, true) => 1460,
        (true, false) => 1440,
        (false, true) => 536,
        (false, false) => 1220,
    };
    header.window_size = 65_500 / of_segment * of_segment;
    header.set_options(&options).expect("they fit");
    let mut frame = segment(edge, client, &header, &[]);
    if is_ipv4 {
        // The builder's header says neither "do not fragment" nor identification 0.
        let mut ip = Ipv4Header::from_slice(&frame[IP..])?.0;
        ip.dont_fragment = true;
        ip.identification = 0;
        ip.header_checksum = ip.calc_header_checksum();
        frame[IP..AFTER_IPV4].copy_from_slice(&ip.to_bytes());
    }
    let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let link = Ethernet2Header {
        source: from,
        destination: to,
        ether_type: Ethernet2Header::from_slice(&frame)?.0.ether_type,
    };
    frame[..IP].copy_from_slice(&link.to_bytes());
    let length = frame.len().max(60);
    frame.resize(length, 0);
    Ok(frame)
}

fn tcp_of(frame: &[u8]) -> Result<TcpHeader> {
    match PacketHeaders::from_ethernet_slice(frame)?.transport {
        Some(TransportHeader::Tcp(header)) => Ok(header),
        other => anyhow::bail!("{other:?} is no TCP"),
    }
}

fn the_answer_is_right(Host { fixture, .. }: &mut Host) -> Result<()> {
    for way in WAYS {
        for wish in wishes() {
            let frame = segment(way.0, way.1, &syn_header(&wish), &[]);
            let answer = fixture.run(&frame, Some("guarded"), Challenged)?;
            let mut expected = expected(way, &wish, &answer)?;
            // What is padding may be anything.
            let packet = expected.len().min(packet_length(&expected)?);
            expected[packet..].copy_from_slice(&answer[packet..]);
            ensure!(
                answer == expected,
                "{wish:?}:\n{answer:02x?}\n{expected:02x?}"
            );
        }
    }
    Ok(())
}

/// Bytes of a frame without its padding.
fn packet_length(frame: &[u8]) -> Result<usize> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    Ok(match headers.net.context("no IP")? {
        NetHeaders::Ipv4(ip, _) => IP + usize::from(ip.total_len),
        NetHeaders::Ipv6(ip, _) => AFTER_IPV6 + usize::from(ip.payload_length),
        NetHeaders::Arp(_) => frame.len(),
    })
}

/// The ACK of a client that got `answer`, with the first bytes it sends.
fn reply_to(way: (&str, &str), answer: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let answer = tcp_of(answer)?;
    let sequence = answer.acknowledgment_number;
    let mut header = TcpHeader::new(CLIENT_PORT, answer.source_port, sequence, 1000);
    header.ack = true;
    header.acknowledgment_number = answer.sequence_number.wrapping_add(1);
    Ok(segment(way.0, way.1, &header, payload))
}

fn the_answer_passes(Host { fixture, .. }: &mut Host) -> Result<()> {
    let owner = Some("guarded");
    for way in WAYS {
        let syn = segment(way.0, way.1, &syn_header(&wishes()[0]), &[]);
        let answer = fixture.run(&syn, owner, Challenged)?;
        let mut forged = answer.clone();
        // The lowest bits of a cookie name one of a few segment sizes: others are as good.
        let transport = if way.0 == CLIENT {
            AFTER_IPV4
        } else {
            AFTER_IPV6
        };
        forged[transport + 5] ^= 1;
        fixture.check(&reply_to(way, &forged, &[])?, owner, Dropped(OutOfState))?;
        // A client's data may come before the kernel has made a socket of the ACK.
        fixture.check(&reply_to(way, &answer, b"first")?, owner, Passed)?;
        let mut later = tcp_of(&reply_to(way, &answer, &[])?)?;
        later.sequence_number = later.sequence_number.wrapping_add(5);
        let later = segment(way.0, way.1, &later, b"second");
        fixture.check(&later, owner, Passed)?;
    }
    Ok(())
}

fn headers_in_between(Host { fixture, .. }: &mut Host) -> Result<()> {
    let owner = Some("guarded");
    let wish = wishes()[0].clone();
    let v4 = segment(CLIENT, EDGE, &syn_header(&wish), b"early data");
    let v6 = segment(CLIENT_V6, EDGE_V6, &syn_header(&wish), &[]);
    for frame in [
        with_options(v4.clone(), 1),
        with_options(v4.clone(), 10),
        padded(v4.clone(), 9),
        v4.clone(),
    ] {
        let answer = fixture.run(&frame, owner, Challenged)?;
        ensure!(
            answer == expected((CLIENT, EDGE), &wish, &answer)?,
            "{answer:02x?}"
        );
    }
    let answer = fixture.run(&with_extensions(v6, &[0, 60]), owner, Challenged)?;
    ensure!(
        answer == expected((CLIENT_V6, EDGE_V6), &wish, &answer)?,
        "{answer:02x?}"
    );

    let frame = tagged(tagged(v4, 0x8100), 0x88a8);
    let answer = fixture.run(&frame, owner, Challenged)?;
    let untagged = [&answer[..12], &answer[20..]].concat();
    ensure!(
        untagged == expected((CLIENT, EDGE), &wish, &untagged)?,
        "{answer:02x?}"
    );
    ensure!(answer[12..20] == frame[12..20], "other tags: {answer:02x?}");
    Ok(())
}

fn only_for_who_listens(Host { fixture, .. }: &mut Host) -> Result<()> {
    // Nobody listens on the port of another address's listener.
    let closed = syn(CLIENT, EDGE, 9);
    fixture.check(&closed, None, Dropped(ClosedPort))?;
    // Connected, or half so: the kernel knows what to do with another SYN.
    let frame = syn(CLIENT, EDGE, GUARDED);
    fixture.check(&frame, Some("guarded"), Challenged)?;
    let _connection = connect(CLIENT, EDGE, GUARDED)?;
    fixture.check(&frame, Some("guarded"), Passed)
}

/// A connection from the port that all frames come from.
fn connect(from: &str, to: &str, port: u16) -> Result<Socket> {
    let to = SocketAddr::new(to.parse()?, port);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(from.parse()?, CLIENT_PORT).into())?;
    socket.connect(&to.into())?;
    Ok(socket)
}

/// Ends a connection on both sides at once.
fn reset(connection: Socket) -> Result<()> {
    connection.set_linger(Some(Duration::ZERO))?;
    drop(connection);
    Ok(())
}

fn time_wait(Host { fixture, listener }: &mut Host) -> Result<()> {
    let client = connect(CLIENT, EDGE, GUARDED)?;
    // Who closes first waits.
    drop(listener.accept()?);
    drop(client);
    fixture.check(&syn(CLIENT, EDGE, GUARDED), Some("guarded"), Passed)
}

fn unmarked(Host { fixture, .. }: &mut Host) -> Result<()> {
    let frame = syn(CLIENT, EDGE, GUARDED);
    let owner = Some("guarded");
    fixture.filter().set_terms(None)?;
    fixture.check(&frame, owner, Passed)?;
    fixture.filter().set_terms(Some(&host::TERMS))?;
    fixture.check(&frame, owner, Challenged)
}

fn begins_above(Host { fixture, .. }: &mut Host) -> Result<()> {
    let owner = Some("wary");
    for _ in 0..WARY_ABOVE {
        fixture.check(&syn(CLIENT, EDGE, WARY), owner, Passed)?;
    }
    fixture.check(&syn(CLIENT, EDGE, WARY), owner, Challenged)?;
    fixture.check(&syn(CLIENT_V6, EDGE_V6, WARY), owner, Challenged)
}
