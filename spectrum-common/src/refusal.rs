//! Sources that were refused a moment ago, so that the next packet of one is refused before anything
//! else is looked up.
//!
//! Each CPU has its own array, in which a source takes the place of whichever was there: what is not
//! found is judged by the rules as ever.

use crate::address::Address;

/// Elements of the array `refusals`; a power of two. 48 KiB on each CPU.
pub const REFUSALS: u32 = 1024;

/// Seconds for which a refusal is remembered: an entry of a list may expire meanwhile.
pub const MAX_AGE_SECONDS: u32 = 1;

/// A source that is blocked at an app.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub source: Address,
    pub destination: Address,
    /// The IP protocol, above the destination's port.
    pub service: u32,
    /// The app's slot.
    pub slot: u32,
    /// [`Settings::policy_generation`](crate::settings::Settings::policy_generation) under which it was
    /// refused; 0 = unused.
    pub generation: u32,
    /// Low bits of the jiffies of then.
    pub jiffies: u32,
}
