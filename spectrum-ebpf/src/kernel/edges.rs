//! Which packets are ours, and whose.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use spectrum_common::{
    address::Address,
    edge::{Edge, EdgeSet, PortPage},
    maps::size,
};
use spectrum_ebpf::edges;

use super::lines::Lines;

#[btf_map(name = "edges")]
static EDGES: Lines<EdgeSet, { size::EDGE_SETS }> = Lines::new();

#[btf_map(name = "ports")]
static PORTS: Array<PortPage, { size::PORT_PAGES }> = Array::new();

#[inline(always)]
pub(crate) fn edge(destination: &Address) -> Option<Edge> {
    let [first, second] = edges::sets(destination);
    let set = EDGES.get(first)?;
    let found = edges::find(set, destination);
    if found.is_none() && edges::is_full(set) {
        return edges::find(EDGES.get(second)?, destination);
    }
    found
}

#[inline(always)]
pub(crate) fn port_entry(page: u32, index: u8) -> u16 {
    let entry = PORTS
        .get(page)
        .and_then(|page| page.entries.get(usize::from(index)));
    entry.copied().unwrap_or(0)
}
