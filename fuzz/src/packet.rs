//! A frame as it comes from the wire: the parser of the XDP program, and what signatures look at.

use spectrum_common::{reason::Reason, signature::WINDOW};
use spectrum_ebpf::{
    packet::Bytes,
    parse::{Fragment, Kind, Packet, parse, protocol},
    signatures,
};

/// Bytes of the headers of IP without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

pub fn run(frame: &[u8]) {
    let packet = parsed(frame);
    assert_eq!(packet.length as usize, frame.len());
    match packet.kind {
        Kind::Foreign => {
            let nothing = Packet {
                length: packet.length,
                ..Packet::default()
            };
            assert_eq!(packet, nothing);
        }
        Kind::Unaddressed => assert_eq!(packet.defect, Some(Reason::Malformed)),
        Kind::Addressed => says_where_things_are(frame, &packet),
    }
    says_the_same_of_a_padded_frame(frame, &packet);
    says_the_same_of_what_was_sampled(frame, &packet);
    looks_at_the_payload_alone(frame, &packet);
}

fn parsed(frame: &(impl Bytes + ?Sized)) -> Packet {
    let mut packet = Packet::default();
    parse(frame, &mut packet);
    packet
}

/// Every offset is one of this frame, and what is said to be there is there.
fn says_where_things_are(frame: &[u8], packet: &Packet) {
    let network = usize::from(packet.network_offset);
    let header = if frame[network] >> 4 == 4 {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    };
    assert!(network + header <= frame.len());
    if packet.has_ports {
        assert_ne!(packet.fragment, Fragment::Later);
        assert!([protocol::TCP, protocol::UDP].contains(&packet.protocol));
        let transport = usize::from(packet.transport_offset);
        assert!(transport >= network + header);
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        assert_eq!(packet.source_port, port(transport));
        assert_eq!(packet.destination_port, port(transport + 2));
    }
    let is_whole = packet.defect != Some(Reason::Malformed);
    if is_whole {
        assert!(network + usize::from(packet.packet_length) <= frame.len());
    }
    if is_whole && packet.has_ports {
        let start = usize::from(packet.payload_offset);
        let end = start + usize::from(packet.payload_length);
        assert!(usize::from(packet.transport_offset) < start && end <= frame.len());
        // Beyond that the length of an IPv6 packet does not fit into its field.
        if packet.packet_length < u16::MAX {
            assert_eq!(end, network + usize::from(packet.packet_length));
        }
    }
}

/// Short frames are padded, and not with zeros alone.
fn says_the_same_of_a_padded_frame(frame: &[u8], packet: &Packet) {
    if packet.kind != Kind::Addressed || packet.defect == Some(Reason::Malformed) {
        return;
    }
    let padded = [frame, &[0xff; 18]].concat();
    let expected = Packet {
        length: packet.length + 18,
        ..*packet
    };
    assert_eq!(parsed(padded.as_slice()), expected);
}

/// The engine learns from the beginnings of frames what the filter decides about whole ones.
fn says_the_same_of_what_was_sampled(frame: &[u8], packet: &Packet) {
    for captured in [0, 33, 54, 60, 128, frame.len() / 2] {
        let sample = Sample {
            captured: &frame[..captured.min(frame.len())],
            length: packet.length,
        };
        let sampled = parsed(&sample);
        signatures::fields(&sample, &sampled, 1, 0);
        if sampled.kind == Kind::Addressed && sampled.defect.is_none() {
            let expected = Packet {
                length: sampled.length,
                ..*packet
            };
            assert_eq!(sampled, expected);
        }
    }
}

/// What lies outside of the payload (headers, padding) is in no window.
fn looks_at_the_payload_alone(frame: &[u8], packet: &Packet) {
    let start = usize::from(packet.payload_offset);
    let payload = frame.get(start..start + usize::from(packet.payload_length));
    for offset in [0, 1, 7, 15, 1500, u32::from(u16::MAX)] {
        let fields = signatures::fields(frame, packet, 1, offset);
        let Some(payload) = payload else { continue };
        let rest = payload.get(offset as usize..).unwrap_or_default();
        let mut window = [0; WINDOW];
        let length = rest.len().min(WINDOW);
        window[..length].copy_from_slice(&rest[..length]);
        assert_eq!(fields.payload.map(u64::to_be_bytes).concat(), window);
    }
}

/// A frame of which only the beginning is known.
struct Sample<'a> {
    captured: &'a [u8],
    length: u32,
}

impl Bytes for Sample<'_> {
    fn first_length(&self) -> u32 {
        self.captured.first_length()
    }

    fn length(&self) -> u32 {
        self.length
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.captured.read(offset)
    }
}
