//! From bytes to facts.
//!
//! Checksums are not verified: a virtual interface hands over packets whose checksum is yet to be
//! filled in, and a packet with a wrong one does no harm before the stack discards it.

mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use spectrum_common::{address::Address, reason::Reason};

use crate::packet::Bytes;

pub use transport::{Ports, flag};

/// IP protocol numbers (IANA) that the policy knows.
pub mod protocol {
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Neither IPv4 nor IPv6, under at most two VLAN tags.
    Foreign,
    /// IP by its link header, but the destination cannot be read.
    Unaddressed,
    /// A packet with a source and a destination.
    Packet(Packet),
}

/// The facts that the policy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    /// IP protocol number, after any IPv6 extension headers.
    pub protocol: u8,
    pub fragment: Fragment,
    /// `None` if there are none (a later fragment, a protocol other than TCP and UDP) or they
    /// cannot be read.
    pub ports: Option<Ports>,
    /// The first thing that is wrong: [`Reason::Malformed`], [`Reason::TcpFlags`] or
    /// [`Reason::Martian`].
    pub defect: Option<Reason>,
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    /// The part with the transport header.
    First,
    /// Any other part.
    Later,
}

/// What the network layer says of a packet, and where to go on.
struct Network {
    source: Address,
    destination: Address,
    protocol: u8,
    fragment: Fragment,
    /// Where the transport header begins.
    payload: usize,
    /// Where the IP packet ends, by its own length. The frame may go on with padding.
    end: usize,
    /// The headers contradict themselves, each other, or the frame; `payload` means nothing then.
    broken: bool,
    /// The source is none that a packet from outside can have.
    martian: bool,
}

/// Reads the headers of a frame.
#[inline(always)]
pub fn parse(frame: &(impl Bytes + ?Sized)) -> Frame {
    let network = match ethernet::parse(frame) {
        Some((ethernet::IPV4, offset)) => ipv4::parse(frame, offset),
        Some((ethernet::IPV6, offset)) => ipv6::parse(frame, offset),
        Some(_) | None => return Frame::Foreign,
    };
    let Some(network) = network else {
        return Frame::Unaddressed;
    };
    let (ports, defect) = transport::parse(frame, &network);
    let martian = network.martian || network.source == network.destination;
    Frame::Packet(Packet {
        source: network.source,
        destination: network.destination,
        protocol: network.protocol,
        fragment: network.fragment,
        ports,
        defect: defect.or(martian.then_some(Reason::Martian)),
    })
}
