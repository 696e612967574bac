//! The origins of an app: which one a connection gets, and which one it tries next.

mod candidates;
mod maglev;
mod mix;
mod schedule;
mod state;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{clock::Moment, socket::Outgoing};
use crate::{
    config::{self, Balance, Member, Origin, PortRange, SourceAddress},
    event::Status,
};
use candidates::Candidates;
use maglev::Maglev;
use schedule::Schedule;
pub use state::{CheckSnapshot, OriginCondition};
pub(super) use state::{Held, OriginState};

/// With `lowest-latency`, one connection in this many goes to the next origin in turn, so that the
/// measures of the others stay true.
const PROBE_EVERY: usize = 32;

/// The origins of an app, in its order.
#[derive(Debug)]
pub(super) struct Origins {
    peers: Box<[Peer]>,
    settings: config::Origins,
    /// Whose turn it is where origins are equally good.
    schedule: Schedule,
    /// Only for [`Balance::SourceHash`].
    maglev: Option<Maglev>,
    /// Choices so far, where [`PROBE_EVERY`] counts them.
    chosen: AtomicUsize,
    /// Whose turn it is of several sources.
    turn: AtomicUsize,
}

/// An origin with its part, and what is known of it.
#[derive(Debug)]
struct Peer {
    member: Member,
    state: Arc<OriginState>,
}

/// What the operator sees of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSnapshot {
    /// Address, with the port that belongs to the first port of the app.
    pub address: SocketAddr,
    pub weight: u16,
    pub backup: bool,
    pub state: OriginCondition,
    /// TCP connections or UDP sessions at this moment, those that are being opened included.
    pub active: u32,
    /// Attempts that did not reach it, and UDP datagrams that it refused.
    pub failures: u64,
    /// Moving average of the time to connect, in microseconds; absent before the first connection.
    pub connect_us: Option<u64>,
    /// Absent for an origin that is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSnapshot>,
}

impl Origins {
    /// Origins that `previous` knows keep their state. Where a name leads to them, there are none
    /// before it is [resolved](Self::resolved).
    pub(super) fn new(settings: &config::Origins, previous: Option<&Self>) -> Self {
        let known = previous.filter(|previous| {
            settings.lookup.is_some() && previous.settings.lookup == settings.lookup
        });
        match known {
            Some(known) => Self::with(settings, &known.members(), previous),
            None => Self::with(settings, &settings.members, previous),
        }
    }

    /// The same with the origins to which their name leads now.
    pub(super) fn resolved(&self, members: &[Member]) -> Self {
        Self::with(&self.settings, members, Some(self))
    }

    fn with(settings: &config::Origins, members: &[Member], previous: Option<&Self>) -> Self {
        let settings = settings.clone();
        let balance = settings.balance;
        let known = previous.map_or(&[][..], |previous| &previous.peers);
        let peer = |member: &Member| Peer::new(*member, known);
        let peers: Box<[Peer]> = members.iter().map(peer).collect();
        let is_hashed = balance == Balance::SourceHash;
        Self {
            schedule: Schedule::new(members),
            maglev: is_hashed.then(|| Maglev::new(members)),
            peers,
            chosen: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            settings,
        }
    }

    /// The origins that a connection of `source` should try, the best first, each once. What has
    /// become known by then counts for each.
    pub(super) fn attempts(&self, source: IpAddr) -> Attempts<'_> {
        Attempts {
            origins: self,
            source,
            tried: 0,
            left: self.settings.retries.saturating_add(1),
        }
    }

    /// The origin at an address, for a session that it has already. One that is not among these any
    /// more stays with its session, as after any change.
    pub(super) fn hold(&self, address: SocketAddr, ports: PortRange, edge_port: u16) -> Held {
        let mut peers = self.peers.iter();
        let known = peers.find(|peer| peer.state.address(ports, edge_port) == address);
        if let Some(peer) = known {
            return Held::new(&peer.state);
        }
        let offset = edge_port.saturating_sub(ports.first);
        let origin = Origin {
            ip: address.ip(),
            first_port: address.port().saturating_sub(offset),
        };
        Held::new(&Arc::new(OriginState::new(origin)))
    }

    /// From where a client's connection to an origin comes.
    pub(super) fn outgoing(&self, client: IpAddr, origin: IpAddr) -> Outgoing {
        match &self.settings.source {
            SourceAddress::Client if client.is_ipv4() == origin.is_ipv4() => {
                Outgoing::Foreign(client)
            }
            SourceAddress::Client | SourceAddress::Route => Outgoing::Route,
            SourceAddress::Pool(pool) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                Outgoing::of_pool(pool, origin, turn)
            }
        }
    }

    /// Whether an origin other than `than` may be expected to answer.
    pub(super) fn has_better(&self, than: &OriginState) -> bool {
        let now = Moment::now();
        self.peers.iter().any(|peer| {
            let is_other = peer.state.origin != than.origin;
            is_other && !peer.member.maintenance && peer.state.is_up(now)
        })
    }

    pub(super) fn snapshot(&self, ports: PortRange) -> Vec<OriginSnapshot> {
        let now = Moment::now();
        let snapshot = |Peer { member, state }: &Peer| OriginSnapshot {
            address: state.address(ports, ports.first),
            weight: member.weight,
            backup: member.rank > 0,
            state: if member.maintenance {
                OriginCondition::Maintenance
            } else {
                state.condition(now, self.settings.slow_start)
            },
            active: state.active(),
            failures: state.failures(),
            connect_us: state.connect_us(),
            check: state.last_check(),
        };
        self.peers.iter().map(snapshot).collect()
    }

    fn members(&self) -> Vec<Member> {
        self.peers.iter().map(|peer| peer.member).collect()
    }

    /// The status of a connection for which there is no origin to try.
    pub(super) fn status_of_none(&self) -> Status {
        if self.settings.lookup.is_some() && self.peers.is_empty() {
            Status::UNRESOLVABLE
        } else {
            Status::ORIGIN_CONNECT_ERROR
        }
    }

    /// Those that are not in maintenance.
    pub(super) fn in_service(&self) -> impl Iterator<Item = &Arc<OriginState>> {
        let peers = self.peers.iter();
        peers
            .filter(|peer| !peer.member.maintenance)
            .map(|peer| &peer.state)
    }

    /// The best origin that is not among those `tried`: one that is up before one that is not, and
    /// of those, one of the lowest rank.
    fn choose(&self, source: IpAddr, tried: u64) -> Option<usize> {
        let now = Moment::now();
        let mut best = None;
        let mut those = 0;
        for (index, Peer { member, state }) in self.peers.iter().enumerate() {
            if member.maintenance || tried >> index & 1 == 1 {
                continue;
            }
            let rank = (!state.is_up(now), member.rank);
            if best.is_none_or(|best| rank < best) {
                (best, those) = (Some(rank), 0);
            }
            if best == Some(rank) {
                those |= 1 << index;
            }
        }
        best?;
        let candidates = Candidates::new(&self.peers, those, now, self.settings.slow_start);
        self.choose_among(&candidates, source)
    }

    fn choose_among(&self, candidates: &Candidates<'_>, source: IpAddr) -> Option<usize> {
        match (self.settings.balance, &self.maglev) {
            (Balance::SourceHash, Some(maglev)) => maglev.find(candidates, source),
            (Balance::LeastConnections, _) => {
                self.schedule.next(&candidates.with_fewest_connections())
            }
            (Balance::LowestLatency, _) => {
                let chosen = self.chosen.fetch_add(1, Ordering::Relaxed);
                if chosen % PROBE_EVERY == PROBE_EVERY - 1 {
                    self.schedule.next(candidates)
                } else {
                    self.schedule.next(&candidates.with_lowest_latency())
                }
            }
            (Balance::RoundRobin | Balance::SourceHash, _) => self.schedule.next(candidates),
        }
    }
}

impl Peer {
    /// With the state of the same origin among those `known`.
    fn new(member: Member, known: &[Self]) -> Self {
        let same = known
            .iter()
            .find(|peer| peer.member.origin == member.origin);
        let Some(same) = same else {
            let state = Arc::new(OriginState::new(member.origin));
            return Self { member, state };
        };
        if same.member.maintenance && !member.maintenance {
            same.state.comes_back();
        }
        Self {
            member,
            state: Arc::clone(&same.state),
        }
    }
}

/// See [`Origins::attempts`].
pub(super) struct Attempts<'a> {
    origins: &'a Origins,
    source: IpAddr,
    /// A bit for each origin.
    tried: u64,
    left: u32,
}

impl Iterator for Attempts<'_> {
    type Item = Held;

    fn next(&mut self) -> Option<Held> {
        self.left = self.left.checked_sub(1)?;
        let index = self.origins.choose(self.source, self.tried)?;
        self.tried |= 1 << index;
        let peer = self.origins.peers.get(index)?;
        Some(Held::new(&peer.state))
    }
}

#[cfg(test)]
mod tests;
