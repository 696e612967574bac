//! The origins of an app: which one a connection gets, and which one it tries next.

mod candidates;
mod maglev;
mod mix;
mod queue;
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
use queue::{Queue, Ticket};
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
    /// Who waits while all are full.
    queue: Arc<Queue>,
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
    /// So many it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
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
        let queue = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.queue));
        let peer = |member: &Member| Peer::new(*member, known, &queue);
        let peers: Box<[Peer]> = members.iter().map(peer).collect();
        for peer in &peers {
            peer.state.set_most(settings.max_connections);
        }
        queue.wake();
        let is_hashed = balance == Balance::SourceHash;
        Self {
            schedule: Schedule::new(members),
            maglev: is_hashed.then(|| Maglev::new(members)),
            peers,
            queue,
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
            are_full: false,
        }
    }

    /// Whether clients wait, so that others have to wait behind them.
    pub(super) fn has_queue(&self) -> bool {
        self.settings.max_connections.is_some() && self.queue.len() > 0
    }

    /// A place in the queue; `None` if `length` wait already.
    pub(super) fn queue(&self, length: u32) -> Option<Ticket<'_>> {
        self.queue.join(length)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
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
        Held::new(&Arc::new(OriginState::new(origin, Arc::clone(&self.queue))))
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
            let is_there = !peer.member.maintenance && peer.state.is_up(now);
            is_other && is_there && !peer.state.is_full()
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
            max_connections: self.settings.max_connections,
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
    /// of those, one of the lowest rank. One that is full, or among those `full`, keeps its rank:
    /// backups are for origins that fail, not for those that are busy.
    fn choose(&self, source: IpAddr, tried: u64, full: u64) -> Choice {
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
            if best == Some(rank) && full >> index & 1 == 0 && !state.is_full() {
                those |= 1 << index;
            }
        }
        if best.is_none() {
            return Choice::Nobody;
        }
        if those == 0 {
            return Choice::AllFull;
        }
        let candidates = Candidates::new(&self.peers, those, now, self.settings.slow_start);
        let chosen = self.choose_among(&candidates, source);
        chosen.map_or(Choice::Nobody, Choice::One)
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

/// See [`Origins::choose`].
enum Choice {
    One(usize),
    AllFull,
    Nobody,
}

impl Peer {
    /// With the state of the same origin among those `known`.
    fn new(member: Member, known: &[Self], queue: &Arc<Queue>) -> Self {
        let same = known
            .iter()
            .find(|peer| peer.member.origin == member.origin);
        let Some(same) = same else {
            let state = Arc::new(OriginState::new(member.origin, Arc::clone(queue)));
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
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    origins: &'a Origins,
    source: IpAddr,
    /// A bit for each origin.
    tried: u64,
    left: u32,
    are_full: bool,
}

impl Attempts<'_> {
    /// Whether there was none the last time because those that remain are full.
    pub(super) fn are_full(&self) -> bool {
        self.are_full
    }

    /// Whether one more may be tried.
    pub(super) fn may_go_on(&self) -> bool {
        self.left > 0
    }

    /// Any origin will do again, for who has waited.
    pub(super) fn start_again(&mut self) {
        self.tried = 0;
    }
}

impl Iterator for Attempts<'_> {
    type Item = Held;

    fn next(&mut self) -> Option<Held> {
        self.are_full = false;
        let left = self.left.checked_sub(1)?;
        // Those whose last place somebody else was quicker to take.
        let mut full = 0;
        loop {
            match self.origins.choose(self.source, self.tried, full) {
                Choice::One(index) => {
                    let peer = self.origins.peers.get(index)?;
                    if let Some(held) = Held::take(&peer.state) {
                        self.left = left;
                        self.tried |= 1 << index;
                        return Some(held);
                    }
                    full |= 1 << index;
                }
                Choice::AllFull => {
                    self.are_full = true;
                    return None;
                }
                Choice::Nobody => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
