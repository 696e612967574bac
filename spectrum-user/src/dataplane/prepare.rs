//! What a filter should hold, worked out before it is written: pure but for the memory of a table, so
//! that it can be done on any thread. A million listed addresses take a second.

use std::{net::IpAddr, sync::Arc};

use spectrum_common::address::Address;

use super::{
    error::Error,
    geo,
    lists::{Draft, FeedList},
    plan::{Plan, Slots},
};
use crate::{config::Config, geo::Places};

/// What has to be known of a filter.
pub struct Brief {
    pub(super) slots: Slots,
    /// The digest of the lists that it holds.
    pub(super) lists_in_use: u64,
    pub(super) places: geo::Known,
}

/// What it should hold.
pub struct Prepared {
    pub(super) plan: Plan,
    /// `None`: the lists stay.
    pub(super) lists: Option<Draft>,
    pub(super) places: geo::Draft,
}

impl Brief {
    /// # Errors
    /// A map is too small, or the kernel has no memory for a table.
    pub fn prepare(
        self,
        config: &Config,
        addresses: &[IpAddr],
        (feeds, places): (&[FeedList], &Arc<Places>),
    ) -> Result<Prepared, Error> {
        let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
        let mut plan = Plan::new(config, &addresses, &self.slots, (feeds, places))?;
        Ok(Prepared {
            lists: Draft::new(&plan, self.lists_in_use)?,
            places: geo::Draft::new(&mut plan, self.places)?,
            plan,
        })
    }
}
