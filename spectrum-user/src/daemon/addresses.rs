//! The addresses of the shielded interfaces.

use std::{
    net::{IpAddr, UdpSocket},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;

use crate::config::{App, SourceAddress};

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

/// # Errors
/// An app wants to reach its origins from an address that this host does not have.
pub(super) fn ensure_sources(apps: &[Arc<App>]) -> Result<()> {
    for app in apps {
        let SourceAddress::Pool(pool) = &app.origins.source else {
            continue;
        };
        for ip in pool {
            UdpSocket::bind((*ip, 0)).with_context(|| {
                format!(
                    "app {}: origins.sources: connections cannot come from {ip}\n  help: add it to an \
                     interface of this host, or remove it",
                    app.name
                )
            })?;
        }
    }
    Ok(())
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
