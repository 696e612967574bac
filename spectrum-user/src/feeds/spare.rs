//! Whom no feed may block: where the operator administers from.

use std::{env, net::IpAddr};

use ipnet::IpNet;

/// The address of the session that `$SSH_CONNECTION` tells of.
pub fn session() -> Option<IpNet> {
    let connection = env::var("SSH_CONNECTION").ok()?;
    let ip: IpAddr = connection.split(' ').next()?.parse().ok()?;
    Some(IpNet::from(ip.to_canonical()))
}

/// `prefixes` without what `spared` covers, and how many of them were touched. A prefix that is
/// wider than what is spared falls into those around it.
pub fn spare(prefixes: Vec<IpNet>, spared: &[IpNet]) -> (Vec<IpNet>, usize) {
    let mut kept = Vec::with_capacity(prefixes.len());
    let mut touched = 0;
    for prefix in prefixes {
        if spared.iter().any(|spared| overlaps(prefix, *spared)) {
            touched += 1;
            kept.extend(around(prefix, spared));
        } else {
            kept.push(prefix);
        }
    }
    kept.sort_unstable();
    kept.dedup();
    (kept, touched)
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The halves of a prefix, and theirs, down to those that touch nothing spared.
fn around(prefix: IpNet, spared: &[IpNet]) -> Vec<IpNet> {
    let mut kept = Vec::new();
    let mut open = vec![prefix];
    while let Some(prefix) = open.pop() {
        if spared.iter().any(|spared| spared.contains(&prefix)) {
            continue;
        }
        if spared.iter().any(|spared| prefix.contains(spared)) {
            open.extend(
                prefix
                    .subnets(prefix.prefix_len() + 1)
                    .into_iter()
                    .flatten(),
            );
        } else {
            kept.push(prefix);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net() -> impl Strategy<Value = IpNet> {
        // Close together, so that they cover one another.
        (any::<u8>(), 20_u8..=32).prop_map(|(low, length)| {
            let ip = IpAddr::from([192, 0, low & 3, low]);
            IpNet::new(ip, length).expect("a length").trunc()
        })
    }

    proptest! {
        /// A feed that blocks the operator locks him out; one that blocks nobody protects nobody.
        #[test]
        fn what_is_spared_is_taken_out_and_nothing_else(
            prefixes in prop::collection::vec(net(), 1..10),
            spared in prop::collection::vec(net(), 0..4),
            low: u8,
            high in 0_u8..4,
        ) {
            let ip = IpAddr::from([192, 0, high, low]);
            let covers = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
            let expected = covers(&prefixes) && !covers(&spared);
            let (kept, touched) = spare(prefixes.clone(), &spared);
            prop_assert_eq!(covers(&kept), expected);
            prop_assert!(touched <= prefixes.len());
        }
    }
}
