//! From bytes to facts.
//!
//! Checksums are not verified: a virtual interface hands over packets whose checksum is yet to be
//! filled in, and a packet with a wrong one does no harm before the stack discards it.

mod ethernet;
mod ipv4;
mod ipv6;
mod martian;
mod plain;
mod transport;

use core::hint::black_box;

use spectrum_common::{address::Address, reason::Reason};

use crate::packet::Bytes;

/// IP protocol numbers (IANA) that the policy knows.
pub mod protocol {
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
}

/// Bits of [`Packet::tcp_flags`].
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// The facts that the policy needs. What is not there or cannot be read is zero: the verifier in
/// the kernel wants no field left open.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    /// Bytes of the whole frame.
    pub length: u32,
    /// IP protocol number, after any IPv6 extension headers.
    pub protocol: u8,
    pub fragment: Fragment,
    /// The ports and the flags of TCP have been read. `false` for later fragments, for protocols
    /// other than TCP and UDP, and for headers that are cut short.
    pub has_ports: bool,
    pub tcp_flags: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// Where the IP header begins.
    pub network_offset: u16,
    /// Where the header of TCP or UDP begins.
    pub transport_offset: u16,
    /// Bytes of the IP packet, by its own header.
    pub packet_length: u16,
    /// TCP's window.
    pub window: u16,
    /// Where in the frame the payload of TCP or UDP begins, and how many bytes it has.
    pub payload_offset: u16,
    pub payload_length: u16,
    /// Bytes that the datagram carries by UDP's own header: in a first fragment, those of the others
    /// as well.
    pub datagram_length: u16,
    pub kind: Kind,
    /// TTL or hop limit.
    pub hops: u8,
    /// Length of the TCP header in words of 4 bytes.
    pub tcp_words: u8,
    /// The first thing that is wrong: [`Reason::Malformed`], [`Reason::TcpFlags`] or
    /// [`Reason::Martian`].
    pub defect: Option<Reason>,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Neither IPv4 nor IPv6, under at most two VLAN tags.
    #[default]
    Foreign,
    /// IP by its link header, but the destination cannot be read.
    Unaddressed,
    /// A packet with a source and a destination.
    Addressed,
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    #[default]
    Whole,
    /// The part with the transport header.
    First,
    /// Any other part.
    Later,
}

impl Packet {
    /// Forgets everything. Written with a zero that the compiler cannot tell from another number: in
    /// the kernel it would call a memset that goes byte by byte.
    #[inline(always)]
    fn clear(&mut self) {
        let zero = black_box(0_u16);
        let nothing = Address::from_ipv6_be([u64::from(zero); 2]);
        let [byte, _] = zero.to_ne_bytes();
        *self = Self {
            source: nothing,
            destination: nothing,
            length: zero.into(),
            protocol: byte,
            fragment: Fragment::Whole,
            has_ports: false,
            tcp_flags: byte,
            source_port: zero,
            destination_port: zero,
            network_offset: zero,
            transport_offset: zero,
            packet_length: zero,
            window: zero,
            payload_offset: zero,
            payload_length: zero,
            datagram_length: zero,
            kind: Kind::Foreign,
            hops: byte,
            tcp_words: byte,
            defect: None,
        };
    }

    /// Is this the SYN of a client that opens a TCP connection?
    #[inline(always)]
    pub const fn opens_tcp(&self) -> bool {
        self.protocol == protocol::TCP && self.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN
    }

    /// Is this a whole segment of a TCP connection that is past its first SYN?
    #[inline(always)]
    pub fn continues_tcp(&self) -> bool {
        self.protocol == protocol::TCP
            && self.has_ports
            && self.fragment == Fragment::Whole
            && self.tcp_flags & flag::SYN == 0
    }
}

/// An offset as the facts hold it: the parser looks for headers no further than that.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "headers are near the beginning"
)]
const fn short(offset: usize) -> u16 {
    offset as u16
}

/// Where the payload of the IP header lies in the frame.
struct Payload {
    start: usize,
    /// By the packet's own length; the frame may go on with padding.
    end: usize,
}

impl Payload {
    /// Notes where the payload of a transport header of `header_length` bytes lies.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an offset is below 2^14, and an IP packet has at most 2^16 bytes"
    )]
    fn note(&self, header_length: usize, packet: &mut Packet) {
        let start = self.start + header_length;
        packet.payload_offset = start as u16;
        packet.payload_length = (self.end - start) as u16;
    }
}

/// Reads the headers of a frame into `packet`.
#[inline(always)]
pub fn parse(frame: &(impl Bytes + ?Sized), packet: &mut Packet) {
    if plain::parse(frame, packet).is_none() {
        parse_any(frame, packet);
    }
}

/// The same for a frame of any shape.
#[inline(always)]
fn parse_any(frame: &(impl Bytes + ?Sized), packet: &mut Packet) {
    packet.clear();
    packet.length = frame.first_length();
    packet.defect = read_headers(frame, packet).err();
    if packet.defect.is_some() || packet.kind != Kind::Addressed {
        packet.length = frame.length();
    }
}

/// Does an IP packet that ends at `end` lie within the frame? Asks for the length of the whole
/// frame only when the first buffer is not enough.
///
/// # Errors
/// It does not: malformed.
#[inline(always)]
fn ensure_within(
    frame: &(impl Bytes + ?Sized),
    end: usize,
    packet: &mut Packet,
) -> Result<(), Reason> {
    if end <= packet.length as usize {
        return Ok(());
    }
    packet.length = frame.length();
    if end <= packet.length as usize {
        return Ok(());
    }
    Err(Reason::Malformed)
}

/// Fills in the packet as far as it can be read.
///
/// # Errors
/// The defect.
#[inline(always)]
fn read_headers(frame: &(impl Bytes + ?Sized), packet: &mut Packet) -> Result<(), Reason> {
    let Some((kind, offset)) = ethernet::parse(frame) else {
        return Ok(());
    };
    let payload = match kind {
        ethernet::IPV4 => ipv4::parse(frame, offset, packet)?,
        ethernet::IPV6 => ipv6::parse(frame, offset, packet)?,
        _ => return Ok(()),
    };
    transport::parse(frame, &payload, packet)?;
    let pretends = kind == ethernet::IPV6 && packet.source.is_ipv4();
    if pretends || packet.source == packet.destination || martian::is_martian(&packet.source) {
        return Err(Reason::Martian);
    }
    Ok(())
}

#[cfg(test)]
mod parse_test;
