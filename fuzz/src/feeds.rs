//! Lists that others keep, and what is taken out of them.

use std::net::IpAddr;

use ipnet::IpNet;
use spectrum_user::feeds::{parse::parse, spare::spare};

/// Prefixes that are asked about one by one.
const MOST: usize = 16;

pub fn run(text: &[u8]) {
    let parsed = parse(text);
    let lines = text.split(|byte| *byte == b'\n').count();
    assert!(parsed.bad_lines <= lines);
    let first = parsed.first_bad.as_ref().map(|(line, _)| *line);
    assert_eq!(first.is_some(), parsed.bad_lines > 0);
    assert!(first.is_none_or(|line| (1..=lines).contains(&line)));

    let prefixes = parsed.prefixes;
    assert!(prefixes.is_sorted_by(|a, b| a < b), "sorted, each once");
    for prefix in &prefixes {
        assert_eq!(prefix.trunc(), *prefix);
        let shortest = match prefix {
            IpNet::V4(_) => 8,
            IpNet::V6(v6) => {
                let mapped = v6.addr().to_ipv4_mapped();
                assert!(v6.prefix_len() < 96 || mapped.is_none(), "IPv4 in disguise");
                16
            }
        };
        assert!(
            prefix.prefix_len() >= shortest,
            "{prefix} is half the world"
        );
    }
    reads_what_it_says(text, &prefixes);
    spares(prefixes);
}

/// A list is what its lines are, in any order, and its own prefixes are the same list.
fn reads_what_it_says(text: &[u8], prefixes: &[IpNet]) {
    let written: String = prefixes.iter().map(|net| format!("{net}\n")).collect();
    let again = parse(written.as_bytes());
    assert_eq!((again.prefixes.as_slice(), again.bad_lines), (prefixes, 0));

    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.reverse();
    assert_eq!(parse(&lines.join(&b'\n')).prefixes, prefixes);
}

/// Of two lists, one is spared in the other: what stays is the one without the other, address by
/// address.
fn spares(mut listed: Vec<IpNet>) {
    listed.truncate(MOST);
    let spared: Vec<IpNet> = listed.iter().copied().step_by(3).flat_map(part).collect();
    let (kept, touched) = spare(listed.clone(), &spared);
    assert!(touched <= listed.len());
    assert!(kept.is_sorted_by(|a, b| a < b), "sorted, each once");
    let covers = |nets: &[IpNet], ip: IpAddr| nets.iter().any(|net| net.contains(&ip));
    // Nothing changes but at the ends of prefixes.
    let ends = listed.iter().chain(&spared).chain(&kept);
    for ip in ends.flat_map(|net| [net.network(), net.broadcast()]) {
        for ip in [Some(ip), neighbour(ip, false), neighbour(ip, true)] {
            let Some(ip) = ip else { continue };
            let expected = covers(&listed, ip) && !covers(&spared, ip);
            assert_eq!(covers(&kept, ip), expected, "{ip}");
        }
    }
}

/// The prefix, and one that lies in it.
fn part(prefix: IpNet) -> Option<IpNet> {
    let (ip, length) = (prefix.broadcast(), prefix.prefix_len());
    let longer = (length + 5).min(prefix.max_prefix_len());
    Some(IpNet::new(ip, longer).ok()?.trunc())
}

fn neighbour(ip: IpAddr, above: bool) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => {
            let bits = u32::from(v4);
            let next = if above {
                bits.checked_add(1)
            } else {
                bits.checked_sub(1)
            };
            next.map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            let next = if above {
                bits.checked_add(1)
            } else {
                bits.checked_sub(1)
            };
            next.map(|bits| IpAddr::V6(bits.into()))
        }
    }
}
