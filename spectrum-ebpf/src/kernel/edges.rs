//! Which packets are ours, and whose.

use aya_ebpf::{
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use spectrum_common::{
    address::Address,
    edge::{Edge, PortPage},
    maps::size,
};

#[btf_map(name = "edges")]
static EDGES: HashMap<Address, Edge, { size::EDGES }> = HashMap::new();

#[btf_map(name = "ports")]
static PORTS: Array<PortPage, { size::PORT_PAGES }> = Array::new();

#[inline(always)]
pub(crate) fn edge(destination: &Address) -> Option<Edge> {
    // SAFETY: the value is copied at once, and no program writes to the map.
    unsafe { EDGES.get(destination).copied() }
}

#[inline(always)]
pub(crate) fn port_entry(page: u32, index: u8) -> u16 {
    let entry = PORTS
        .get(page)
        .and_then(|page| page.entries.get(usize::from(index)));
    entry.copied().unwrap_or(0)
}
