//! What the policy asks of the configuration and of the past.

use core::borrow::Borrow;

use spectrum_common::{
    access::{AccessEntry, AccessKey},
    address::Address,
    app::{App, HOST_SLOT},
    edge::Edge,
    settings::Settings,
};

use crate::{
    access::Family,
    limits::{Account, Admission, Charge},
    parse::Packet,
};

/// The tables that the daemon fills and the program reads: BPF maps in the kernel, copies of their
/// elements anywhere else.
///
/// Most questions are about one element; what the elements mean is decided by the callers, so that
/// it is decided once.
pub trait Tables {
    fn settings(&self) -> &Settings;

    /// `None` if the destination is no edge address.
    fn edge(&self, destination: &Address) -> Option<Edge>;

    /// Element `index` of a page of the map `ports`; 0 if there is no such page.
    fn port_entry(&self, page: u32, index: u8) -> u16;

    /// `None` if no app can be at `slot`.
    fn app(&self, slot: u32) -> Option<impl Borrow<App>>;

    /// Element `word` of a filter; 0 if there is none.
    fn access_filter(&self, family: Family, word: u32) -> u64;

    /// The entry for exactly this address.
    fn access_host(&self, key: &AccessKey) -> Option<AccessEntry>;

    /// The entry of the longest prefix that covers the address and has at most `bits` bits, those
    /// of the scope included.
    fn access_net(&self, bits: u32, key: &AccessKey) -> Option<AccessEntry>;

    /// Seconds since boot, the clock of [`AccessEntry::expires_s`].
    fn boot_seconds(&self) -> u32;

    /// Word `word` of a set of reflector ports; 0 if there is no such set.
    fn reflector_ports(&self, set: u32, word: u16) -> u64;

    /// Does a local socket want this packet? Only asked of packets with ports.
    fn has_socket(&self, packet: &Packet) -> bool;

    /// Charges a packet to its source, see [`limits::admit`](crate::limits::admit).
    fn admit(&self, account: &Account, charge: &Charge, app: &App) -> Admission;

    /// The slot of the app on a port, [`HOST_SLOT`] if there is none.
    #[inline(always)]
    fn app_slot(&self, directory: u32, port: u16) -> u32 {
        if directory == 0 {
            return HOST_SLOT;
        }
        let [high, low] = port.to_be_bytes();
        match self.port_entry(directory, high) {
            0 => HOST_SLOT,
            page => self.port_entry(page.into(), low).into(),
        }
    }

    /// Is `port` in a set of reflector ports?
    #[inline(always)]
    fn is_reflector(&self, set: u32, port: u16) -> bool {
        self.reflector_ports(set, port / 64) & (1 << (port % 64)) != 0
    }
}
