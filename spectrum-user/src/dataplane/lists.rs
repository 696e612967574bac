//! Blocklists and allowlists: entries of the documents and of the operator.
//!
//! An entry is a prefix in a scope (all apps, or one). Single addresses lie in a hash map, wider
//! prefixes in a trie, and both behind a filter of bits that answers for nearly all sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aya::maps::{MapError, lpm_trie::Key};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use spectrum_common::{
    access::{AccessEntry, AccessKey, SCOPE_BITS, action, origin},
    address::Address,
    maps::{self as names, size},
};
use spectrum_ebpf::access::FilterBit;

use super::{clock, error::Error, filter_bits::Bits, maps::Maps};

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Block,
    Allow,
}

impl Action {
    const fn number(self) -> u32 {
        match self {
            Self::Block => action::BLOCK,
            Self::Allow => action::ALLOW,
        }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `spectrum.toml` or a document in `apps.d/`.
    Document,
    /// `spectrum block` or `spectrum allow`.
    Operator,
}

/// An entry, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub action: Action,
    pub source: Source,
    /// Time since boot.
    pub added: Duration,
    /// Time since boot; `None` = never.
    pub expires: Option<Duration>,
}

impl Entry {
    /// From what the maps hold; `None` if that is not of this version.
    pub fn from_map(entry: AccessEntry) -> Option<Self> {
        let action = match entry.action {
            action::BLOCK => Action::Block,
            action::ALLOW => Action::Allow,
            _ => return None,
        };
        let source = match entry.origin {
            origin::DOCUMENT => Source::Document,
            origin::OPERATOR => Source::Operator,
            _ => return None,
        };
        Some(Self {
            action,
            source,
            added: Duration::from_secs(entry.added_s.into()),
            expires: (entry.expires_s != 0).then(|| Duration::from_secs(entry.expires_s.into())),
        })
    }
}

/// The key of an entry: scope (a slot, or 0 for all apps) and prefix.
pub type EntryKey = (u32, IpNet);

/// Puts the operator's entry on a list, in place of any other for the same prefix.
///
/// # Errors
/// The list is full.
pub fn put(
    maps: &mut Maps,
    key: EntryKey,
    action: Action,
    lifetime: Option<Duration>,
) -> Result<(), Error> {
    let now = clock::since_boot_s();
    let expires_s = lifetime.map_or(0, |lifetime| {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        now.saturating_add(seconds.max(1))
    });
    let entry = AccessEntry {
        action: action.number(),
        origin: origin::OPERATOR,
        added_s: now,
        expires_s,
        prefix_length: key_bits(key.1),
    };
    insert(maps, key, entry)?;
    let (scope, prefix) = key;
    let mut settings = maps.settings()?;
    match filter_range(prefix) {
        FilterRange::V4(first, last) => maps.filter_v4.insert(first, last),
        FilterRange::V6(bit) => maps.filter_v6.insert(bit, bit),
        FilterRange::WideV6 => {
            settings.wide_ipv6_entries = 1;
            maps.settings
                .set(0, settings, 0)
                .map_err(Error::map(names::SETTINGS, "write"))?;
        }
    }
    mark_scope(maps, scope)
}

/// Takes an entry off its list; says whether it was there.
///
/// The bits of the filter stay until the daemon's next round: they cost a look-up, no more.
///
/// # Errors
/// The kernel refuses.
pub fn remove(maps: &mut Maps, key: EntryKey) -> Result<bool, Error> {
    let removed = match place(key) {
        Place::Host(key) => maps.access_hosts.remove(&key),
        Place::Net(key) => maps.access_nets.remove(&key),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(Error::map(names::ACCESS_HOSTS, "remove an entry")(error)),
    }
}

/// The entry for exactly this prefix, expired or not.
///
/// # Errors
/// The kernel refuses.
pub fn get(maps: &Maps, key: EntryKey) -> Result<Option<Entry>, Error> {
    let found = match place(key) {
        Place::Host(host) => maps.access_hosts.get(&host, 0),
        // A look-up in the trie would find a shorter prefix too.
        Place::Net(_) => return Ok(all(maps)?.get(&key).copied().and_then(Entry::from_map)),
    };
    match found {
        Ok(entry) => Ok(Entry::from_map(entry)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(Error::map(names::ACCESS_HOSTS, "read")(error)),
    }
}

/// All entries, by key.
///
/// # Errors
/// The kernel refuses.
pub fn all(maps: &Maps) -> Result<BTreeMap<EntryKey, AccessEntry>, Error> {
    let mut entries = BTreeMap::new();
    for item in maps.access_hosts.iter() {
        let (key, entry) = item.map_err(Error::map(names::ACCESS_HOSTS, "read"))?;
        entries.insert(entry_key(key, SCOPE_BITS + 128), entry);
    }
    for item in maps.access_nets.iter() {
        let (key, entry) = item.map_err(Error::map(names::ACCESS_NETS, "read"))?;
        entries.insert(entry_key(key.data(), key.prefix_len()), entry);
    }
    Ok(entries)
}

/// What [`replace_documented`] did and saw.
pub(super) struct Documented {
    pub(super) changed: usize,
    /// Scopes that have entries.
    pub(super) scopes: BTreeSet<u32>,
    /// Whether an IPv6 prefix is too wide for the filter.
    pub(super) wide_ipv6: bool,
}

/// Makes the documents' entries equal to `wanted`, drops expired ones, and brings the filter up
/// to date. Entries of the operator stay, and hide a document's entry for the same prefix.
pub(super) fn replace_documented(
    maps: &mut Maps,
    wanted: &BTreeMap<EntryKey, u32>,
) -> Result<Documented, Error> {
    let now = clock::since_boot_s();
    let before = all(maps)?;
    let mut keep: BTreeSet<EntryKey> = wanted.keys().copied().collect();
    let mut changed = 0;
    for (&key, entry) in &before {
        let expired = entry.expires_s != 0 && entry.expires_s <= now;
        if entry.origin == origin::OPERATOR && !expired {
            keep.insert(key);
        }
    }
    for (&key, &action) in wanted {
        let held = before.get(&key).filter(|entry| {
            let expired = entry.expires_s != 0 && entry.expires_s <= now;
            !expired && (entry.origin == origin::OPERATOR || entry.action == action)
        });
        if held.is_none() {
            let entry = AccessEntry {
                action,
                origin: origin::DOCUMENT,
                added_s: now,
                expires_s: 0,
                prefix_length: key_bits(key.1),
            };
            insert(maps, key, entry)?;
            changed += 1;
        }
    }
    // The filter first, so that it never lacks a bit of an entry that is there.
    let wide_ipv6 = rebuild_filter(maps, &keep);
    for &key in before.keys().filter(|key| !keep.contains(key)) {
        remove(maps, key)?;
        changed += 1;
    }
    Ok(Documented {
        changed,
        scopes: keep.iter().map(|&(scope, _)| scope).collect(),
        wide_ipv6,
    })
}

/// Sets the bits of `keys` and clears all others; says whether a prefix has none of its own.
fn rebuild_filter(maps: &Maps, keys: &BTreeSet<EntryKey>) -> bool {
    let mut v4 = Bits::new();
    let mut v6 = Bits::new();
    let mut wide = false;
    for &(_, prefix) in keys {
        match filter_range(prefix) {
            FilterRange::V4(first, last) => v4.insert(first, last),
            FilterRange::V6(bit) => v6.insert(bit, bit),
            FilterRange::WideV6 => wide = true,
        }
    }
    maps.filter_v4.replace(&v4);
    maps.filter_v6.replace(&v6);
    wide
}

/// Tells the program that an app has entries of its own.
fn mark_scope(maps: &mut Maps, slot: u32) -> Result<(), Error> {
    if slot == spectrum_common::access::GLOBAL_SCOPE {
        return Ok(());
    }
    let app = maps
        .apps
        .get(&slot, 0)
        .map_err(Error::map(names::APPS, "read"))?;
    let app = spectrum_common::app::App {
        has_access_entries: 1,
        ..app
    };
    super::sync::write_app(maps, slot, app)
}

fn insert(maps: &mut Maps, key: EntryKey, entry: AccessEntry) -> Result<(), Error> {
    let (map, capacity, inserted) = match place(key) {
        Place::Host(key) => (
            names::ACCESS_HOSTS,
            size::ACCESS_HOSTS,
            maps.access_hosts.insert(key, entry, 0),
        ),
        Place::Net(key) => (
            names::ACCESS_NETS,
            size::ACCESS_NETS,
            maps.access_nets.insert(&key, entry, 0),
        ),
    };
    inserted.map_err(|error| {
        if is_full(&error) {
            Error::Full {
                map,
                capacity,
                remedy: "list fewer, wider prefixes",
            }
        } else {
            Error::map(map, "add an entry")(error)
        }
    })
}

/// Where an entry lies.
enum Place {
    Host(AccessKey),
    Net(Key<AccessKey>),
}

fn place((scope, prefix): EntryKey) -> Place {
    let key = AccessKey {
        scope_be: scope.to_be(),
        address: Address::from(prefix.network()),
    };
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return Place::Host(key);
    }
    Place::Net(Key::new(key_bits(prefix), key))
}

/// The length of the prefix as the trie counts it.
fn key_bits(prefix: IpNet) -> u32 {
    let mapped = match prefix {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    SCOPE_BITS + mapped + u32::from(prefix.prefix_len())
}

/// The inverse of [`place`].
fn entry_key(key: AccessKey, prefix_len: u32) -> EntryKey {
    let length = u8::try_from(prefix_len.saturating_sub(SCOPE_BITS)).unwrap_or(128);
    let prefix = match std::net::IpAddr::from(key.address) {
        std::net::IpAddr::V4(ip) if length >= 96 => {
            IpNet::V4(Ipv4Net::new_assert(ip, (length - 96).min(32)))
        }
        std::net::IpAddr::V4(ip) => {
            IpNet::V6(Ipv6Net::new_assert(ip.to_ipv6_mapped(), length.min(128)))
        }
        std::net::IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new_assert(ip, length.min(128))),
    };
    (u32::from_be(key.scope_be), prefix)
}

enum FilterRange {
    V4(u32, u32),
    V6(u32),
    WideV6,
}

fn filter_range(prefix: IpNet) -> FilterRange {
    let bit = |ip| FilterBit::of(&Address::from(ip)).index;
    match prefix {
        IpNet::V4(_) => FilterRange::V4(bit(prefix.network()), bit(prefix.broadcast())),
        IpNet::V6(net) if net.prefix_len() >= 48 => FilterRange::V6(bit(prefix.network())),
        IpNet::V6(_) => FilterRange::WideV6,
    }
}

fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound) || errno(error) == Some(libc::ENOENT)
}

fn is_full(error: &MapError) -> bool {
    matches!(
        errno(error),
        Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM)
    )
}

fn errno(error: &MapError) -> Option<i32> {
    if let MapError::SyscallError(error) = error {
        error.io_error.raw_os_error()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// An entry that is read back as another prefix would be removed at the next reload.
        #[test]
        fn a_place_leads_back_to_its_key(
            scope: u32,
            bits: u128,
            low: u32,
            v4: bool,
            length in 0_u8..=128,
        ) {
            let prefix = if v4 {
                let ip = std::net::Ipv4Addr::from(low);
                IpNet::V4(Ipv4Net::new_assert(ip, length % 33).trunc())
            } else {
                IpNet::V6(Ipv6Net::new_assert(bits.into(), length).trunc())
            };
            let back = match place((scope, prefix)) {
                Place::Host(key) => entry_key(key, SCOPE_BITS + 128),
                Place::Net(key) => entry_key(key.data(), key.prefix_len()),
            };
            // ::ffff:0:0/96 and longer is the same place as IPv4.
            if !prefix.to_string().starts_with("::ffff:") {
                prop_assert_eq!(back, (scope, prefix));
            }
        }
    }
}
