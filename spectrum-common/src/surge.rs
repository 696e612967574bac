//! What comes to an app more often than it should, and since when.

/// Seconds without too much of it after which a surge is over.
pub const QUIET_SECONDS: u32 = 10;

/// How much of something an app gets, by slot in the maps `challenges` (SYNs) and `strays` (TCP
/// segments that belong to no connection). Written without locks by whichever CPU has the packet: a
/// count may miss a few.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surge {
    /// Jiffies at which the current second began.
    pub second_began: u64,
    /// Packets in the current second.
    pub count: u64,
    /// Jiffies since when there have been too many; 0 = there are not.
    pub since: u64,
    /// Jiffies at which there were last so many in a second that the surge goes on.
    pub renewed: u64,
}
