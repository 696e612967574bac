//! A host of its own: a network namespace whose loopback interface has the addresses of edges and
//! clients, so that sockets can listen there.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use spectrum_user::dataplane::Terms;

/// How such a host shakes hands.
pub(crate) const TERMS: Terms = Terms {
    sack: true,
    window_scaling: true,
    ecn: true,
    window: 65_500,
    window_scale: 7,
    hop_limit: 64,
};

/// Moves this thread to a host with these addresses, on which listeners can be marked.
pub(crate) fn enter(addresses: &[&str]) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // Cookies always: else the kernel marks no listener.
    set_sysctl("tcp_syncookies", "2")?;
    set_sysctl("tcp_timestamps", "2")?;
    let mut lines = "link set lo up\n".to_owned();
    for address in addresses {
        lines += &match address.parse()? {
            IpAddr::V4(_) => format!("address add {address}/32 dev lo\n"),
            IpAddr::V6(_) => format!("address add {address}/128 dev lo nodad\n"),
        };
    }
    ip(&lines)
}

/// Runs lines of `ip -batch`.
pub(crate) fn ip(lines: &str) -> Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = ip.stdin.take().context("no input")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    ensure!(ip.wait()?.success(), "ip failed");
    Ok(())
}

pub(crate) fn set_sysctl(key: &str, value: &str) -> Result<()> {
    Ok(fs::write(format!("/proc/sys/net/ipv4/{key}"), value)?)
}
