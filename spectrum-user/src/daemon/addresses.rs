//! The addresses of the shielded interfaces.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;

/// All IPv4 and IPv6 addresses of `interfaces`, sorted.
pub(super) fn of_interfaces(interfaces: &[String]) -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("cannot list the addresses of the interfaces")?;
    let mut addresses: Vec<IpAddr> = all
        .filter(|entry| interfaces.contains(&entry.interface_name))
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Whether this host forwards packets, as a gateway does.
pub(super) fn host_forwards() -> bool {
    let switches = [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ];
    switches
        .iter()
        .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0"))
}
