//! What holds for the whole interface.

/// The single element of the map `settings`.
///
/// A version that changes it should keep its size and the places of `abi_version`,
/// `interface_index` and `attach_mode`: its successor then replaces the filter without a gap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever made the maps.
    pub abi_version: u32,
    /// Jiffies in a second (`CONFIG_HZ`).
    pub ticks_per_second: u32,
    /// Seed of the hash over sources, so that collisions cannot be aimed.
    pub hash_seed: u32,
    /// [`mode`](crate::app::mode) of the rule for broken packets: reasons `malformed`,
    /// `tcp_flags` and `martian`.
    pub malformed: u32,
    /// [`mode`](crate::app::mode) of the rule for closed ports on edge addresses.
    pub closed_ports: u32,
    /// Events about dropped or monitored packets that each CPU may send per second.
    pub events_per_second: u32,
    /// Index of the interface that the program was attached to.
    pub interface_index: u32,
    /// [`attach_mode`] that the interface took.
    pub attach_mode: u32,
    /// Which epoch it is, see [`EPOCH_SECONDS`](crate::proven::EPOCH_SECONDS).
    pub epoch: u32,
    /// Number of the policy in force; changes with every policy and list, so that verified flows and
    /// refused sources meet the new one. Not 0, once there is one.
    pub policy_generation: u32,
}

/// How a program is attached.
pub mod attach_mode {
    /// Not attached by us (yet).
    pub const NONE: u32 = 0;
    /// In the driver, before the kernel allocates a socket buffer.
    pub const NATIVE: u32 = 1;
    /// In the network stack, for drivers without XDP.
    pub const GENERIC: u32 = 2;
}
