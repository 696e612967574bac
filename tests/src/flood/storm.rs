//! The frames of an attack, from as many sources as there are frames.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::Attack;
use crate::{
    attack::{self, Flood},
    origin::port,
    packet::{self, Flags, Path},
    topology::address::EDGE,
};

/// Frames of one kind; they are sent over and over again.
const FRAMES: u32 = 32_768;

/// More than any run here lasts for.
const MOST: u64 = 100_000_000;

/// The flood of an attack at the sender's full speed; `None` in the calm.
///
/// # Errors
/// A frame cannot be built.
pub fn flood(attack: Attack, path: Path) -> Result<Option<Flood>> {
    let frames = frames(attack, path)?;
    Ok((!frames.is_empty()).then_some(Flood {
        frames,
        per_second: u32::MAX,
        count: MOST,
    }))
}

fn frames(attack: Attack, path: Path) -> Result<Vec<Vec<u8>>> {
    let tcp = SocketAddr::from((EDGE, port::ECHO));
    let udp = SocketAddr::from((EDGE, port::ECHO));
    match attack {
        Attack::Calm => Ok(Vec::new()),
        Attack::Syn => attack::syns(path, sources(), tcp),
        Attack::Ack => segments(
            path,
            tcp,
            Flags {
                ack: true,
                ..Flags::default()
            },
        ),
        Attack::Rst => segments(
            path,
            tcp,
            Flags {
                rst: true,
                ..Flags::default()
            },
        ),
        Attack::UdpRandom => datagrams(path, udp),
        Attack::UdpReflection => attack::reflections(path, sources(), udp),
        Attack::Fragments => attack::fragments(path, sources(), udp),
        Attack::Mix => {
            let kinds = Attack::ALL.into_iter().filter(|kind| *kind != Attack::Mix);
            let kinds = kinds
                .map(|kind| frames(kind, path))
                .collect::<Result<_>>()?;
            Ok(in_turn(kinds))
        }
    }
}

fn segments(path: Path, to: SocketAddr, flags: Flags) -> Result<Vec<Vec<u8>>> {
    sources()
        .zip((1024..=u16::MAX).cycle())
        .map(|(source, port)| packet::tcp(path, (source, port).into(), to, flags))
        .collect()
}

/// What a game server would take for its own: no reflector's port, no size of its own.
fn datagrams(path: Path, to: SocketAddr) -> Result<Vec<Vec<u8>>> {
    let payload = [0x55; 200];
    sources()
        .zip((30_000..=60_000).cycle())
        .zip((16..=payload.len()).cycle())
        .map(|((source, port), length)| {
            let payload = payload.get(..length).unwrap_or_default();
            packet::udp(path, (source, port).into(), to, payload)
        })
        .collect()
}

/// Addresses all over 198.18.0.0/15, which is for benchmarks (RFC 2544), none of them twice.
fn sources() -> impl Iterator<Item = IpAddr> {
    const BASE: u32 = 198 << 24 | 18 << 16;
    const MASK: u32 = (1 << 17) - 1;
    // An odd factor permutes the addresses.
    (0..FRAMES).map(|number| Ipv4Addr::from(BASE | number.wrapping_mul(0x9e37_79b1) & MASK).into())
}

fn in_turn(kinds: Vec<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    let mut kinds: Vec<_> = kinds.into_iter().map(Vec::into_iter).collect();
    let mut frames = Vec::new();
    loop {
        let before = frames.len();
        frames.extend(kinds.iter_mut().filter_map(Iterator::next));
        if frames.len() == before {
            return frames;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const PATH: Path = Path {
        source: [2; 6],
        destination: [4; 6],
    };

    #[test]
    fn every_source_is_another_one() {
        let sources: HashSet<_> = sources().collect();
        assert_eq!(sources.len(), FRAMES as usize);
    }

    #[test]
    fn the_mix_holds_every_frame_of_every_kind() {
        let count = |attack| frames(attack, PATH).unwrap().len();
        let kinds = Attack::ALL.into_iter().filter(|kind| *kind != Attack::Mix);
        assert_eq!(count(Attack::Mix), kinds.map(count).sum::<usize>());
    }
}
