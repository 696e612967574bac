//! TCP (RFC 9293) and UDP (RFC 768), as far as the policy looks.

use spectrum_common::reason::Reason;

use super::{Fragment, Network, protocol};
use crate::packet::Bytes;

const TCP_HEADER_LENGTH: usize = 20;
const UDP_HEADER_LENGTH: usize = 8;

/// Bits of [`Ports::tcp_flags`].
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// The part of a TCP or UDP header that the policy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
    /// Zero for UDP.
    pub tcp_flags: u8,
}

impl Ports {
    /// Is this the SYN of a client that opens a connection?
    #[inline(always)]
    pub fn is_initial_syn(&self) -> bool {
        self.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN
    }
}

/// The ports, and what is wrong with the packet up to here.
#[inline(always)]
pub(super) fn parse(
    frame: &(impl Bytes + ?Sized),
    network: &Network,
) -> (Option<Ports>, Option<Reason>) {
    if network.broken {
        return (None, Some(Reason::Malformed));
    }
    if network.fragment == Fragment::Later {
        return (None, None);
    }
    let parsed = match network.protocol {
        protocol::TCP => parse_tcp(frame, network),
        protocol::UDP => parse_udp(frame, network),
        _ => return (None, None),
    };
    match parsed {
        Some((ports, defect)) => (Some(ports), defect),
        None => (None, Some(Reason::Malformed)),
    }
}

/// `None` if the packet ends within the header.
#[inline(always)]
fn parse_tcp(frame: &(impl Bytes + ?Sized), network: &Network) -> Option<(Ports, Option<Reason>)> {
    if network.payload + TCP_HEADER_LENGTH > network.end {
        return None;
    }
    let [source_0, source_1, destination_0, destination_1] = frame.read(network.payload)?;
    let [offset, tcp_flags] = frame.read(network.payload + 12)?;
    let ports = Ports {
        source: u16::from_be_bytes([source_0, source_1]),
        destination: u16::from_be_bytes([destination_0, destination_1]),
        tcp_flags,
    };
    let header_length = usize::from(offset >> 4) * 4;
    let defect =
        if header_length < TCP_HEADER_LENGTH || network.payload + header_length > network.end {
            Some(Reason::Malformed)
        } else if is_impossible(tcp_flags) {
            Some(Reason::TcpFlags)
        } else {
            None
        };
    Some((ports, defect))
}

/// `None` if the packet ends within the header.
#[inline(always)]
fn parse_udp(frame: &(impl Bytes + ?Sized), network: &Network) -> Option<(Ports, Option<Reason>)> {
    if network.payload + UDP_HEADER_LENGTH > network.end {
        return None;
    }
    let [
        source_0,
        source_1,
        destination_0,
        destination_1,
        length_0,
        length_1,
    ] = frame.read(network.payload)?;
    let ports = Ports {
        source: u16::from_be_bytes([source_0, source_1]),
        destination: u16::from_be_bytes([destination_0, destination_1]),
        tcp_flags: 0,
    };
    let length = usize::from(u16::from_be_bytes([length_0, length_1]));
    // The length counts the whole datagram, of which a first fragment is only the beginning.
    let is_cut = network.fragment == Fragment::Whole && network.payload + length > network.end;
    let defect = (length < UDP_HEADER_LENGTH || is_cut).then_some(Reason::Malformed);
    Some((ports, defect))
}

/// Every segment carries SYN, ACK or RST; a SYN neither ends nor resets; a FIN acknowledges.
/// PSH, URG and the two bits of ECN say nothing here.
#[inline(always)]
fn is_impossible(flags: u8) -> bool {
    let has = |bits: u8| flags & bits != 0;
    !has(flag::SYN | flag::ACK | flag::RST)
        || has(flag::SYN) && has(flag::FIN | flag::RST)
        || has(flag::FIN) && !has(flag::ACK)
}
