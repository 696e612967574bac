//! What is needed besides the toolchain: purpose, package, and how to see that it is there.

use std::path::Path;

use super::apt;
use crate::shell;

pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    evidence: Evidence,
    /// What the package would start at boot.
    pub(crate) service: Option<&'static str>,
}

enum Evidence {
    Program(&'static str),
    File(&'static str),
}

use Evidence::{File, Program};

/// For the lab, and for the tests in it.
pub(crate) const LAB: &[Package] = &[
    needed(
        "iproute2",
        "network namespaces and veth pairs",
        Program("ip"),
    ),
    needed(
        "bpftool",
        "reads the pinned maps as users do",
        Program("bpftool"),
    ),
    needed("nftables", "locks an origin down", Program("nft")),
    needed("openssh-client", "client: ssh, sftp", Program("sftp")),
    server("openssh-server", "origin: SSH", Program("sshd"), "ssh"),
    needed("tcpdump", "reads captures as users do", Program("tcpdump")),
    needed("curl", "client: HTTP", Program("curl")),
    server("nginx", "origin: HTTP", Program("nginx"), "nginx"),
    server(
        "redis-server",
        "origin: Redis",
        Program("redis-server"),
        "redis-server",
    ),
    needed(
        "dnsmasq-base",
        "origin: a DNS server for its name",
        Program("dnsmasq"),
    ),
    needed(
        "faketime",
        "daemon: a wall clock that jumps",
        Program("faketime"),
    ),
    server(
        "iperf3",
        "client and origin: bulk transfer",
        Program("iperf3"),
        "iperf3",
    ),
];

/// For `cargo xtask bench`, beyond the lab's.
pub(crate) const BENCH: &[Package] = &[
    needed(
        "ethtool",
        "queues and offloads of the lab",
        Program("ethtool"),
    ),
    needed(
        "xdp-tools",
        "xdp-filter, measured beside ours",
        Program("xdp-filter"),
    ),
    needed("nftables", "synproxy, measured beside ours", Program("nft")),
    server(
        "haproxy",
        "measured beside ours",
        Program("haproxy"),
        "haproxy",
    ),
    server(
        "libnginx-mod-stream",
        "nginx as a layer-4 proxy, measured beside ours",
        File("/usr/lib/nginx/modules/ngx_stream_module.so"),
        "nginx",
    ),
];

/// For `cargo xtask fuzz`.
pub(crate) const FUZZ: &[Package] = &[needed("g++", "builds libFuzzer", Program("c++"))];

const fn needed(name: &'static str, purpose: &'static str, evidence: Evidence) -> Package {
    Package {
        name,
        purpose,
        evidence,
        service: None,
    }
}

const fn server(
    name: &'static str,
    purpose: &'static str,
    evidence: Evidence,
    service: &'static str,
) -> Package {
    Package {
        service: Some(service),
        ..needed(name, purpose, evidence)
    }
}

impl Package {
    pub(crate) fn is_there(&self) -> bool {
        match self.evidence {
            Program(name) => shell::find_program(name).is_some(),
            File(path) => Path::new(path).exists(),
        }
    }
}

/// What is missing and how to get it, for a machine on which we cannot install.
pub(crate) fn remedy(absent: &[&Package]) -> String {
    let list: String = absent
        .iter()
        .map(
            |Package {
                 name,
                 purpose,
                 evidence,
                 ..
             }| {
                let (Program(sign) | File(sign)) = evidence;
                format!("\n  {sign:<22} {purpose} (package {name} of Debian)")
            },
        )
        .collect();
    format!(
        "missing on this machine:{list}\n  {}",
        apt::by_hand(&names(absent))
    )
}

pub(crate) fn names(packages: &[&Package]) -> String {
    let names: Vec<_> = packages.iter().map(|package| package.name).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{File, LAB, Package, Program, needed, remedy};

    #[test]
    fn what_is_there_is_seen() {
        assert!(needed("coreutils", "", Program("ls")).is_there());
        assert!(needed("base-files", "", File("/etc/os-release")).is_there());
        assert!(!needed("nothing", "", Program("no-such-program")).is_there());
        assert!(!needed("nothing", "", File("/no/such/file")).is_there());
    }

    /// A user without root, or of another distribution, has nothing but this text.
    #[test]
    fn each_missing_program_is_named_with_its_purpose() {
        let all: Vec<_> = LAB.iter().collect();
        let text = remedy(&all);
        for Package { name, purpose, .. } in LAB {
            assert!(text.contains(name) && text.contains(purpose), "{text}");
        }
    }
}
