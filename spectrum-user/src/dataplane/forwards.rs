//! The UDP flows that filters carry past the proxy, in memory that is shared with them.
//!
//! Nothing here asks the kernel anything: a flow is noted, looked at and forgotten by workers of the
//! proxy, in a few writes.

mod table;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::maps::{Array, Map, MapData, PerCpuArray};
use spectrum_common::{
    forward::{ForwardCounters, ForwardLease, LEASE_NS},
    maps as names,
};

use super::{clock, error::Error, filter::Filter, maps::Maps, pins::Pins};
pub use table::Table;
use table::{Ends, Slot};

/// A session as its datagrams see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub client: SocketAddr,
    /// What the client reaches.
    pub edge: SocketAddr,
    /// Of the proxy's socket to the origin.
    pub outside: SocketAddr,
    pub origin: SocketAddr,
    /// Index of the interface by which the origin's answers have to come; 0 if it may be any.
    pub interface: u32,
}

impl Route {
    /// Whether its datagrams need only get other addresses: both sides speak the same IP, and no
    /// address means something on one link alone.
    pub fn is_plain(&self) -> bool {
        let ends = [self.client, self.edge, self.outside, self.origin];
        let is_ipv4 = self.client.is_ipv4();
        ends.iter().all(|end| {
            let is_local = matches!(end, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
            end.is_ipv4() == is_ipv4 && !is_local
        })
    }
}

/// What was carried in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub datagrams: u64,
    /// Of payload.
    pub bytes: u64,
    /// When the last one was, by `CLOCK_MONOTONIC_COARSE`; zero if there was none.
    pub last: Duration,
}

impl Carried {
    fn add(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.last = self.last.max(other.last);
    }
}

/// The flows of all filters.
#[derive(Clone, Debug, Default)]
pub struct Forwards(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tables: Mutex<Vec<Arc<Table>>>,
    /// How many sessions each has.
    origins: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Forwards {
    /// Sessions are noted in these from now on. Those that there are stay where they were noted.
    pub fn follow(&self, tables: Vec<Arc<Table>>) {
        *lock(&self.0.tables) = tables;
    }

    /// Lets the filters carry the datagrams of a session; `None` if none has room for it, or could.
    pub fn open(&self, route: &Route) -> Option<Session> {
        if !route.is_plain() {
            return None;
        }
        let inward = Ends {
            from: [route.client, route.edge],
            to: [route.outside, route.origin],
            interface: 0,
        };
        let outward = Ends {
            from: [route.origin, route.outside],
            to: [route.edge, route.client],
            interface: route.interface,
        };
        let tables = lock(&self.0.tables).clone();
        // The answers first: whoever is answered by the proxy meanwhile loses nothing.
        let note = |ends| tables.iter().filter_map(move |table| table.note(ends));
        let outward: Vec<Slot> = note(&outward).collect();
        let inward: Vec<Slot> = note(&inward).collect();
        if inward.is_empty() || outward.is_empty() {
            return None;
        }
        let origin = route.origin.ip();
        *lock(&self.0.origins).entry(origin).or_default() += 1;
        Some(Session {
            inward,
            outward,
            origin,
            shared: Arc::clone(&self.0),
        })
    }

    /// The origins of all sessions that are noted, and how many each has.
    pub fn origins(&self) -> BTreeMap<IpAddr, usize> {
        lock(&self.0.origins).clone()
    }
}

/// A session whose datagrams are carried until it is dropped.
#[derive(Debug)]
pub struct Session {
    inward: Vec<Slot>,
    outward: Vec<Slot>,
    origin: IpAddr,
    shared: Arc<Shared>,
}

impl Session {
    /// What was carried so far: to the origin, and to the client.
    pub fn carried(&self) -> [Carried; 2] {
        [sum(&self.inward), sum(&self.outward)]
    }

    /// Lets the filters carry nothing more, and returns what they have.
    pub fn close(self) -> [Carried; 2] {
        self.inward
            .iter()
            .chain(&self.outward)
            .for_each(Slot::forget);
        self.carried()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut origins = lock(&self.shared.origins);
        if let Some(sessions) = origins.get_mut(&self.origin) {
            *sessions -= 1;
            if *sessions == 0 {
                origins.remove(&self.origin);
            }
        }
    }
}

fn sum(slots: &[Slot]) -> Carried {
    let mut sum = Carried::default();
    slots.iter().for_each(|slot| sum.add(slot.carried()));
    sum
}

/// What became of datagrams of known flows.
pub type Counts = ForwardCounters;

/// Lets no filter below `pin_dir` carry anything for a daemon that is gone: its ports are free, and may
/// be somebody else's.
pub fn halt(pin_dir: &Path) {
    for interface in Pins::interfaces(pin_dir) {
        let path = Pins::new(pin_dir, &interface).map(names::FORWARD_LEASE);
        // A filter of an earlier version has no such map.
        let lease = MapData::from_pin(path)
            .and_then(Map::from_map_data)
            .and_then(Array::<_, ForwardLease>::try_from);
        if let Ok(mut lease) = lease
            && let Err(error) = lease.set(0, ForwardLease::default(), 0)
        {
            log::error!("{interface}: cannot stop what an earlier daemon carried: {error}");
        }
    }
}

impl Filter {
    /// A table of flows in this filter's maps, which holds none. For the one who writes it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forward_table(&mut self) -> Result<Arc<Table>, Error> {
        self.hold_forwards(false)?;
        let maps = self.maps_mut();
        let seed = maps.settings()?.hash_seed;
        Table::map(&maps.forward_lines, &maps.forwards, seed).map(Arc::new)
    }

    /// Lets the filter carry the flows in its table for the next seconds, or from now on none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn hold_forwards(&mut self, hold: bool) -> Result<(), Error> {
        let until_ns = if hold {
            clock::monotonic_coarse_ns() + LEASE_NS
        } else {
            0
        };
        self.maps_mut()
            .forward_lease
            .set(0, ForwardLease { until_ns }, 0)
            .map_err(Error::map(names::FORWARD_LEASE, "write"))
    }
}

impl Maps {
    /// What became of datagrams of known flows, over all CPUs.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn forward_counts(&self) -> Result<Counts, Error> {
        let counts: &PerCpuArray<_, ForwardCounters> = &self.forward_counts;
        let per_cpu = counts
            .get(&0, 0)
            .map_err(Error::map(names::FORWARD_COUNTS, "read"))?;
        let mut sum = Counts::default();
        for cpu in per_cpu.iter() {
            sum.carried += cpu.carried;
            sum.odd_shape += cpu.odd_shape;
            sum.unfinished += cpu.unfinished;
            sum.astray += cpu.astray;
            sum.renewal += cpu.renewal;
            sum.expired += cpu.expired;
            sum.no_route += cpu.no_route;
            sum.too_big += cpu.too_big;
            sum.no_neighbour += cpu.no_neighbour;
            sum.no_port += cpu.no_port;
        }
        Ok(sum)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
