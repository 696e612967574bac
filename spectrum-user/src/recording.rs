//! Files of recorded packets: pcap and pcapng to read, pcapng to write.

pub mod write;

use std::io::Read;

use anyhow::{Context as _, Result, anyhow, bail};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Bytes held at once to begin with; a block that is larger makes it more, up to the most.
const BUFFER: usize = 1 << 20;
const LARGEST_BUFFER: usize = 64 << 20;

/// A recorded packet.
pub struct Recorded<'a> {
    /// From 1, as other programs number them.
    pub number: u64,
    /// As it was on the wire, or its beginning.
    pub captured: &'a [u8],
    /// Bytes that it had on the wire.
    pub length: usize,
}

/// Hands each packet of a file to `take`, in the order of the file.
///
/// # Errors
/// Neither pcap nor pcapng, cut short, or not recorded on Ethernet; or what `take` says.
pub fn read(
    file: impl Read + Send + 'static,
    mut take: impl FnMut(&Recorded<'_>) -> Result<()>,
) -> Result<()> {
    let mut reader = create_reader(BUFFER, file)
        .map_err(|_unknown| anyhow!("not a pcap or pcapng file, or it is empty"))?;
    let mut capacity = BUFFER;
    let mut links = Vec::new();
    let mut section = None;
    let mut number = 0;
    loop {
        if section.is_some_and(|is_big_endian| is_too_short(reader.data(), is_big_endian)) {
            bail!("the file is damaged behind packet {number}");
        }
        match reader.next() {
            Ok((size, block)) => {
                if let PcapBlockOwned::NG(Block::SectionHeader(header)) = &block {
                    section = Some(header.big_endian());
                }
                if let Some((captured, length)) = packet(&block, &mut links)? {
                    number += 1;
                    let packet = Recorded {
                        number,
                        captured,
                        length,
                    };
                    take(&packet).with_context(|| format!("packet {number}"))?;
                }
                reader.consume(size);
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                if reader.reader_exhausted() {
                    bail!("the file is cut short behind packet {number}");
                }
                // What a block says of its length may be a lie: first the file must have that much.
                if reader.data().len() == capacity {
                    capacity *= 2;
                    if capacity > LARGEST_BUFFER || !reader.grow(capacity) {
                        bail!("behind packet {number}: a block is too large");
                    }
                }
                if reader.refill().is_err() {
                    bail!("the file cannot be read behind packet {number}");
                }
            }
            Err(PcapError::UnexpectedEof) => {
                bail!("the file is cut short behind packet {number}")
            }
            Err(_) => bail!("the file is damaged behind packet {number}"),
        }
    }
}

/// Does a block of pcapng say that it is shorter than its own frame? The parser would reckon with what
/// is left of it.
fn is_too_short(block: &[u8], is_big_endian: bool) -> bool {
    const FRAME: u32 = 12;
    let length = block.get(4..).and_then(|rest| rest.first_chunk().copied());
    let read = if is_big_endian {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    length.is_some_and(|length| read(length) < FRAME)
}

/// The packet of a block, as captured and as long as it was on the wire; `None` for blocks that hold
/// none. `links` are the kinds of the interfaces that the file has described so far.
fn packet<'a>(
    block: &'a PcapBlockOwned<'_>,
    links: &mut Vec<Linktype>,
) -> Result<Option<(&'a [u8], usize)>> {
    let (interface, captured, length) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            links.push(header.network);
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => (0, packet.data, packet.origlen),
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            links.push(interface.linktype);
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let captured = packet.data.get(..packet.caplen as usize);
            let captured = captured.context("a packet is longer than its block")?;
            (packet.if_id as usize, captured, packet.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let captured = packet.data.get(..packet.origlen as usize);
            (0, captured.unwrap_or(packet.data), packet.origlen)
        }
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    match links.get(interface) {
        Some(&Linktype::ETHERNET) => Ok(Some((captured, length as usize))),
        Some(Linktype(other)) => bail!(
            "recorded with link type {other}, and only Ethernet (1) can be replayed\n  help: record \
             on one interface (`tcpdump -i eth0`), not on `any`"
        ),
        None => bail!("a packet of an interface that the file does not describe"),
    }
}
