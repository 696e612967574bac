//! Whether the maps have room for a configuration: asked before anything is bound or written.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use spectrum_common::address::Address;

use super::{
    error::Error,
    plan::{Plan, Slots},
    signatures, sync,
};
use crate::{
    config::{Config, Errors},
    geo::Places,
};

/// Apps on dynamic addresses take room for their ports: so much on any host that has addresses.
const SOME_ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// # Errors
/// The documents, of which the host's is `document`, want more than there is room for.
pub fn ensure(config: &Config, document: &Path) -> Result<(), Errors> {
    match plan(config) {
        Ok(()) => Ok(()),
        Err(Error::Full {
            map,
            capacity,
            remedy,
        }) => Err(Errors::no_room(document, map, capacity, remedy)),
        // Nothing else can go wrong without a kernel.
        Err(_) => Ok(()),
    }
}

fn plan(config: &Config) -> Result<(), Error> {
    let addresses = SOME_ADDRESSES.map(Address::from);
    // What no database knows is not asked, and takes no room.
    let places = Arc::new(Places::supposed());
    let plan = Plan::new(config, &addresses, &Slots::new(), (&[], &places))?;
    signatures::ensure_room(&plan.rules, plan.apps.keys().copied())?;
    sync::edge_sets(&plan.edges).map(drop)
}
