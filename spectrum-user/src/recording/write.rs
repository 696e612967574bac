//! A file of captured packets, in the format pcapng (draft-ietf-opsawg-pcapng).

use std::borrow::Cow;

use anyhow::Result;
use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode, PcapNGOption,
    SectionHeaderBlock, ToVec,
};

use crate::capture::{Packet, Started};

/// Time stamps count nanoseconds: 10⁻⁹ seconds.
const NANOSECONDS: u8 = 9;

/// Option of a packet: what a filter made of it.
const VERDICT: OptionCode = OptionCode(7);
/// The kind of verdict that is a number of `enum xdp_action`.
const XDP: u8 = 2;

/// How a file begins: by whom it is, and a block for each interface.
///
/// # Errors
/// A name is too long.
pub fn header(started: &Started) -> Result<Vec<u8>> {
    let program = concat!("spectrum ", env!("CARGO_PKG_VERSION"));
    let section = SectionHeaderBlock {
        block_type: 0,
        block_len1: 0,
        bom: 0,
        major_version: 0,
        minor_version: 0,
        section_len: -1,
        options: vec![option(OptionCode::ShbUserAppl, program.as_bytes())?],
        block_len2: 0,
    };
    let mut bytes = bytes(section)?;
    for name in &started.interfaces {
        bytes.extend(interface(name, started.snap_length)?);
    }
    Ok(bytes)
}

fn interface(name: &str, snap_length: u32) -> Result<Vec<u8>> {
    bytes(InterfaceDescriptionBlock {
        block_type: 0,
        block_len1: 0,
        linktype: Linktype::ETHERNET,
        reserved: 0,
        snaplen: snap_length,
        options: vec![option(OptionCode::IfName, name.as_bytes())?],
        block_len2: 0,
        if_tsresol: NANOSECONDS,
        if_tsoffset: 0,
    })
}

/// A packet, with its verdict as a comment and for filters (`frame.verdict.ebpf_xdp`).
///
/// # Errors
/// It is too long.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
pub fn packet(packet: &Packet) -> Result<Vec<u8>> {
    let mut verdict = [XDP; 9];
    if let Some((_, action)) = verdict.split_first_mut() {
        action.copy_from_slice(&packet.action.to_le_bytes());
    }
    bytes(EnhancedPacketBlock {
        block_type: 0,
        block_len1: 0,
        if_id: packet.interface,
        ts_high: (packet.time_ns >> 32) as u32,
        ts_low: packet.time_ns as u32,
        caplen: u32::try_from(packet.bytes.len())?,
        origlen: packet.length,
        data: &packet.bytes,
        options: vec![
            option(OptionCode::Comment, packet.comment.as_bytes())?,
            option(VERDICT, &verdict)?,
        ],
        block_len2: 0,
    })
}

fn option(code: OptionCode, value: &[u8]) -> Result<PcapNGOption<'_>> {
    Ok(PcapNGOption {
        code,
        len: u16::try_from(value.len())?,
        value: Cow::Borrowed(value),
    })
}

/// A block, with its lengths and all else that is always the same.
fn bytes(mut block: impl ToVec) -> Result<Vec<u8>> {
    Ok(block.to_vec()?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use pcap_parser::{Block, parse_block_le};

    use super::*;
    use crate::recording;

    /// Whoever reads the file sees the packets as they came, and what became of them.
    #[test]
    fn what_is_written_can_be_read() {
        let started = Started {
            interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
            snap_length: 128,
        };
        let packets: Vec<Packet> = (14..20).map(sample).collect();
        let mut file = header(&started).expect("short names");
        for sample in &packets {
            file.extend(packet(sample).expect("a short packet"));
        }

        let mut read = Vec::new();
        recording::read(Cursor::new(file.clone()), |recorded| {
            read.push((recorded.captured.to_vec(), recorded.length));
            Ok(())
        })
        .expect("a whole file");
        let wanted = packets.iter().map(|p| (p.bytes.clone(), p.length as usize));
        assert_eq!(read, wanted.collect::<Vec<_>>());
        assert_eq!(told(&file), (started.interfaces, packets));
    }

    fn sample(bytes: u8) -> Packet {
        Packet {
            interface: u32::from(bytes % 2),
            time_ns: 1_700_000_000_123_456_789 + u64::from(bytes),
            length: 1000 + u32::from(bytes),
            bytes: (0..bytes).collect(),
            action: 1,
            weight: 1,
            comment: format!("dropped: blocked, of {bytes} bytes"),
        }
    }

    /// The interfaces and packets of a file, by all that is said of them.
    fn told(file: &[u8]) -> (Vec<String>, Vec<Packet>) {
        let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
        let mut rest = file;
        while !rest.is_empty() {
            let (after, block) = parse_block_le(rest).expect("a whole block");
            rest = after;
            if let Block::InterfaceDescription(interface) = &block {
                assert_eq!((interface.snaplen, interface.if_tsresol), (128, 9));
                let name = interface.if_name().expect("a name").expect("in UTF-8");
                interfaces.push(name.to_owned());
            }
            if let Block::EnhancedPacket(packet) = &block {
                packets.push(told_of(packet));
            }
        }
        (interfaces, packets)
    }

    fn told_of(packet: &EnhancedPacketBlock<'_>) -> Packet {
        let option = |code| {
            let found = packet.options.iter().find(|option| option.code == code);
            found.expect("the option").as_bytes().expect("its bytes")
        };
        let (kind, action) = option(VERDICT).split_first().expect("a kind");
        assert_eq!(*kind, XDP);
        let captured = packet.data.get(..packet.caplen as usize);
        Packet {
            interface: packet.if_id,
            time_ns: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
            length: packet.origlen,
            bytes: captured.expect("all of it").to_vec(),
            action: u64::from_le_bytes(action.try_into().expect("8 bytes")),
            weight: 1,
            comment: String::from_utf8(option(OptionCode::Comment).to_vec()).expect("UTF-8"),
        }
    }
}
