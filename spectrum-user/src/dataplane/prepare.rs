//! What a filter should hold, worked out before it is written: pure but for the memory of a table, so
//! that it can be done on any thread. A million listed addresses take a second.

use std::net::IpAddr;

use spectrum_common::address::Address;

use super::{
    error::Error,
    lists::{Draft, FeedList},
    plan::{Plan, Slots},
};
use crate::config::Config;

/// What has to be known of a filter.
pub struct Brief {
    pub(super) slots: Slots,
    /// The digest of the lists that it holds.
    pub(super) lists_in_use: u64,
}

/// What it should hold.
pub struct Prepared {
    pub(super) plan: Plan,
    /// `None`: the lists stay.
    pub(super) lists: Option<Draft>,
}

impl Brief {
    /// # Errors
    /// A map is too small, or the kernel has no memory for a table.
    pub fn prepare(
        &self,
        config: &Config,
        addresses: &[IpAddr],
        feeds: &[FeedList],
    ) -> Result<Prepared, Error> {
        let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
        let plan = Plan::new(config, &addresses, &self.slots, feeds)?;
        let lists = Draft::new(&plan, self.lists_in_use)?;
        Ok(Prepared { plan, lists })
    }
}
