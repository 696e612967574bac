//! The attacks of the demonstration, and when they come and go.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::Result;

use crate::{
    Lab,
    attack::{self, Flood, Running},
    daemon::Site,
    origin::port,
    packet::Path,
    topology::address::{ATTACKER, EDGE},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    SynFlood,
    Reflection,
    BlockedSource,
}

/// What happens in turn, and for how many beats; `None` is quiet.
const PROGRAMME: [(Option<Kind>, u32); 6] = [
    (None, 3),
    (Some(Kind::SynFlood), 5),
    (None, 3),
    (Some(Kind::Reflection), 5),
    (None, 3),
    (Some(Kind::BlockedSource), 5),
];

const BEATS: u32 = 24;
const BEAT: Duration = Duration::from_secs(1);

/// First of the 254 sources of the SYN flood.
const FLOODERS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// First of the 254 reflectors.
const REFLECTORS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCES: u32 = 254;

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SynFlood => "SYN flood",
            Self::Reflection => "UDP reflection",
            Self::BlockedSource => "blocked source",
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::SynFlood => "SYN flood on tcp/80 from 254 sources of 198.51.100.0/24",
            Self::Reflection => {
                "DNS, NTP, SSDP, … answers and fragments from 192.0.2.0/24 to udp/7"
            }
            Self::BlockedSource => "SYNs to tcp/80 from 203.0.113.66, after `spectrum block`",
        }
    }

    pub(super) const fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::SynFlood => &["syn_rate"],
            Self::Reflection => &["reflector", "fragment"],
            Self::BlockedSource => &["blocked"],
        }
    }

    /// The app whose filter learns of it, and has an answer of its own; a block needs none.
    pub(super) const fn app(self) -> Option<&'static str> {
        match self {
            Self::SynFlood => Some("http"),
            Self::Reflection => Some("echo"),
            Self::BlockedSource => None,
        }
    }

    fn per_second(self) -> u32 {
        match self {
            // So many that what the limit of 10 per source and second admits is a small part.
            Self::SynFlood => 50_000,
            Self::Reflection => 20_000,
            Self::BlockedSource => 10_000,
        }
    }

    fn frames(self, path: Path) -> Result<Vec<Vec<u8>>> {
        let http = (EDGE, port::HTTP).into();
        let echo = (EDGE, port::ECHO).into();
        match self {
            Self::SynFlood => attack::syns(path, attack::sources(FLOODERS, SOURCES), http),
            Self::Reflection => {
                let sources = || attack::sources(REFLECTORS, SOURCES);
                let mut frames = attack::reflections(path, sources(), echo)?;
                frames.extend(attack::fragments(path, sources(), echo)?);
                Ok(frames)
            }
            Self::BlockedSource => attack::syns(path, attack::sources(ATTACKER, 1), http),
        }
    }
}

/// Plays the programme.
pub(super) struct Attackers<'lab> {
    lab: &'lab Lab,
    site: Site<'lab>,
    beat: Duration,
    current: Option<(Kind, Running)>,
    /// Packets of the attacks that are over.
    sent: BTreeMap<Kind, u64>,
}

impl<'lab> Attackers<'lab> {
    /// A short demonstration plays the whole programme, faster.
    pub(super) fn new(lab: &'lab Lab, site: &Site<'lab>, duration: Option<Duration>) -> Self {
        Self {
            lab,
            site: site.clone(),
            beat: duration.map_or(BEAT, |duration| (duration / BEATS).min(BEAT)),
            current: None,
            sent: BTreeMap::new(),
        }
    }

    /// Does what the programme says for this time.
    pub(super) fn play(&mut self, elapsed: Duration) -> Result<()> {
        let due = act(elapsed, self.beat);
        if self.current() != due {
            self.stop()?;
            self.current = due.map(|kind| self.start(kind)).transpose()?;
        }
        Ok(())
    }

    pub(super) fn current(&self) -> Option<Kind> {
        self.current.as_ref().map(|(kind, _)| *kind)
    }

    /// Ends the attack that is on.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some((kind, attack)) = self.current.take() else {
            return Ok(());
        };
        *self.sent.entry(kind).or_default() += attack.stop()?;
        if kind == Kind::BlockedSource {
            self.site.run("unblock", &[ATTACKER.to_string()])?;
        }
        Ok(())
    }

    /// Packets that each attack has sent, of those that are over.
    pub(super) fn sent(&self) -> BTreeMap<Kind, u64> {
        self.sent.clone()
    }

    fn start(&self, kind: Kind) -> Result<(Kind, Running)> {
        if kind == Kind::BlockedSource {
            self.site.run("block", &[ATTACKER.to_string()])?;
        }
        let flood = Flood {
            frames: kind.frames(self.lab.attack_path())?,
            per_second: kind.per_second(),
            count: u64::MAX,
        };
        Ok((kind, flood.start(&self.lab.attacker)?))
    }
}

/// The programme is played over and over.
fn act(elapsed: Duration, beat: Duration) -> Option<Kind> {
    let beats = elapsed.as_nanos() / beat.as_nanos().max(1);
    let mut beat = beats % u128::from(BEATS);
    for (act, length) in PROGRAMME {
        match beat.checked_sub(u128::from(length)) {
            Some(rest) => beat = rest,
            None => return act,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attack left out would count as dropped.
    #[test]
    fn every_attack_comes_and_goes_once_in_a_programme() {
        assert_eq!(PROGRAMME.iter().map(|(_, beats)| beats).sum::<u32>(), BEATS);
        let mut acts: Vec<_> = (0..BEATS).map(|beat| act(beat * BEAT, BEAT)).collect();
        acts.dedup();
        let expected: Vec<_> = PROGRAMME.iter().map(|(act, _)| *act).collect();
        assert_eq!(acts, expected);
        assert_eq!(act(BEATS * BEAT, BEAT), act(Duration::ZERO, BEAT));
    }
}
