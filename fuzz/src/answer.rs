//! The options of a stranger's SYN, and the SYN-ACK that answers it.

use arbitrary::{Arbitrary, Unstructured};
use spectrum_common::handshake::{Handshake, ability};
use spectrum_ebpf::{
    answer::{
        Cookie, IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, MAX_ANSWER_LENGTH, Reply, Request,
        write_ipv4_header, write_ipv6_header, write_segment,
    },
    parse::{Kind, Packet, flag, parse},
};

/// What the host's TCP agrees to, and the cookie; the frame follows.
#[derive(Arbitrary)]
struct Terms {
    abilities: u8,
    window: u32,
    window_scale: u8,
    segment: u16,
    hop_limit: u8,
    milliseconds: u32,
    sequence: u32,
    cookie_segment: u16,
}

pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok(terms) = Terms::arbitrary(&mut data) else {
        return;
    };
    let frame = data.take_rest();
    let mut packet = Packet::default();
    parse(frame, &mut packet);
    let is_whole = packet.kind == Kind::Addressed && packet.defect.is_none();
    if !is_whole || !packet.has_ports || !packet.opens_tcp() {
        return;
    }
    let header = &frame[usize::from(packet.transport_offset)..];
    let length = usize::from(packet.tcp_words) * 4;
    let request = Request::read(&packet, header, length).expect("the header is whole");
    assert!(request.window_scale <= 14);
    // What comes after the header is the client's data, and asks for nothing.
    assert_eq!(
        Request::read(&packet, &header[..length], length),
        Some(request)
    );
    answers(&packet, request, &terms);
}

/// Parses the answer as its receiver would.
fn answers(packet: &Packet, request: Request, terms: &Terms) {
    let handshake = Handshake {
        marked: 1,
        abilities: u32::from(terms.abilities),
        window: terms.window,
        window_scale: u32::from(terms.window_scale).min(14),
        segment_ipv4: u32::from(terms.segment),
        segment_ipv6: u32::from(terms.segment),
        hop_limit: terms.hop_limit.into(),
    };
    let cookie = Cookie {
        milliseconds: terms.milliseconds.into(),
        sequence: terms.sequence,
        segment: terms.cookie_segment.into(),
    };
    let reply = Reply { request, cookie };
    let mut segment = [0; MAX_ANSWER_LENGTH];
    let length = write_segment(&mut segment, packet, &reply, &handshake);
    let frame = framed(packet, &handshake, &segment, length);

    let mut answer = Packet::default();
    parse(frame.as_slice(), &mut answer);
    assert_eq!(answer.source, packet.destination);
    assert_eq!(answer.destination, packet.source);
    assert_eq!(answer.source_port, packet.destination_port);
    assert_eq!(answer.destination_port, packet.source_port);
    assert_eq!(answer.payload_length, 0);
    let both = flag::SYN | flag::ACK;
    assert_eq!(answer.tcp_flags & both, both);
    let at = |at: usize| u32::from_be_bytes(*segment[at..].first_chunk().unwrap());
    assert_eq!(at(4), terms.sequence);
    assert_eq!(at(8), request.sequence.wrapping_add(1));
    assert_eq!(checksum(packet, &segment, length), 0xffff);

    // Nothing is agreed to that the client has not asked for, or the host does not know.
    let agreed = Request::read(&answer, segment.as_slice(), length.into()).unwrap();
    let ours = agreed.abilities & !ability::ECN;
    assert_eq!(ours & !(request.abilities & handshake.abilities), 0);
    if ours & ability::TIMESTAMPS != 0 {
        assert_eq!(at(32), request.timestamp, "the echo of the client's own");
    } else {
        assert_eq!(ours, 0);
    }
}

fn framed(packet: &Packet, handshake: &Handshake, segment: &[u8], length: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    if packet.source.is_ipv4() {
        let mut header = [0; IPV4_HEADER_LENGTH];
        write_ipv4_header(&mut header, packet, handshake, length);
        assert_eq!(ones_sum(&header), 0xffff);
        frame.extend([0x08, 0x00]);
        frame.extend(header);
    } else {
        let mut header = [0; IPV6_HEADER_LENGTH];
        write_ipv6_header(&mut header, packet, handshake, length);
        frame.extend([0x86, 0xdd]);
        frame.extend(header);
    }
    frame.extend(&segment[..usize::from(length)]);
    frame
}

/// The sum over pseudo header and segment, which a right checksum makes 0xffff (RFC 9293 §3.1).
fn checksum(packet: &Packet, segment: &[u8], length: u8) -> u32 {
    let mut bytes = Vec::new();
    for address in [packet.source, packet.destination] {
        let words = if address.is_ipv4() {
            &address.words_be()[3..]
        } else {
            &address.words_be()[..]
        };
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    bytes.extend([0, packet.protocol, 0, length]);
    bytes.extend(&segment[..usize::from(length)]);
    ones_sum(&bytes)
}

fn ones_sum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
