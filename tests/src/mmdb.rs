//! Databases in MaxMind's format, as small as a test needs them
//! (<https://maxmind.github.io/MaxMind-DB/>).
#![expect(
    clippy::indexing_slicing,
    reason = "nodes that were just made, and their two sides"
)]

use std::net::IpAddr;

use ipnet::IpNet;

/// What is known of a prefix: its country, and its autonomous system with the name of who runs it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub prefix: IpNet,
    pub country: Option<&'a str>,
    pub system: Option<(u32, &'a str)>,
}

const EMPTY: u32 = u32::MAX;
/// Bytes of zero between the tree and the data.
const SEPARATOR: u32 = 16;

/// The bytes of a database that knows these prefixes, of which none lies within another.
pub fn database(known: &[Known<'_>]) -> Vec<u8> {
    let mut tree = vec![[EMPTY; 2]];
    let mut data = Vec::new();
    let mut leaves = Vec::new();
    for one in known {
        let (address, length) = bits(one.prefix);
        let offset = u32::try_from(data.len()).expect("a small database");
        data.extend(record(one));
        let mut node = 0;
        for depth in 0..length - 1 {
            let side = usize::from(address >> (127 - depth) & 1 != 0);
            if tree[node][side] == EMPTY {
                tree.push([EMPTY; 2]);
                tree[node][side] = u32::try_from(tree.len() - 1).expect("a small database");
            }
            node = tree[node][side] as usize;
        }
        let side = usize::from(address >> (128 - length) & 1 != 0);
        leaves.push((node, side, offset));
    }
    let count = u32::try_from(tree.len()).expect("a small database");
    for side in tree.iter_mut().flatten().filter(|side| **side == EMPTY) {
        *side = count;
    }
    for (node, side, offset) in leaves {
        tree[node][side] = count + SEPARATOR + offset;
    }
    let mut bytes: Vec<u8> = tree
        .iter()
        .flatten()
        .flat_map(|side| side.to_be_bytes())
        .collect();
    bytes.extend([0; SEPARATOR as usize]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    bytes.extend(description(count));
    bytes
}

/// The prefix in the tree of IPv6, in which IPv4 lies below `::/96`.
fn bits(prefix: IpNet) -> (u128, u32) {
    let length = u32::from(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), length + 96),
        IpAddr::V6(v6) => (v6.to_bits(), length),
    }
}

fn record(known: &Known<'_>) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Some(code) = known.country {
        fields.push(("country", map(&[("iso_code", text(code))])));
    }
    if let Some((number, name)) = known.system {
        fields.push((
            "autonomous_system_number",
            unsigned(6, &number.to_be_bytes()),
        ));
        fields.push(("autonomous_system_organization", text(name)));
    }
    map(&fields)
}

fn description(nodes: u32) -> Vec<u8> {
    map(&[
        ("node_count", unsigned(6, &nodes.to_be_bytes())),
        ("record_size", unsigned(5, &32_u16.to_be_bytes())),
        ("ip_version", unsigned(5, &6_u16.to_be_bytes())),
        ("database_type", text("Test")),
        ("languages", vec![0, 4]),
        (
            "binary_format_major_version",
            unsigned(5, &2_u16.to_be_bytes()),
        ),
        (
            "binary_format_minor_version",
            unsigned(5, &0_u16.to_be_bytes()),
        ),
        ("build_epoch", vec![4, 2, 1, 1, 1, 1]),
        ("description", map(&[])),
    ])
}

/// A kind of 3 bits, and a size of 5.
fn control(kind: u8, size: usize) -> u8 {
    assert!(size < 29, "longer texts take another form");
    kind << 5 | u8::try_from(size).expect("less than 29")
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![control(2, text.len())];
    bytes.extend(text.bytes());
    bytes
}

fn unsigned(kind: u8, number: &[u8]) -> Vec<u8> {
    let mut bytes = vec![control(kind, number.len())];
    bytes.extend(number);
    bytes
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![control(7, fields.len())];
    for (name, value) in fields {
        if name.len() < 29 {
            bytes.extend(text(name));
        } else {
            // The size is one byte more, from 29 on.
            let rest = u8::try_from(name.len() - 29).expect("a short name");
            bytes.extend([2 << 5 | 29, rest]);
            bytes.extend(name.bytes());
        }
        bytes.extend(value);
    }
    bytes
}
