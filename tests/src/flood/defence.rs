//! An edge with one defence, in a lab of its own.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{Defence, cores};
use crate::{
    Lab, client,
    daemon::{AppDocument, Daemon, HostDocument, Site, output},
    origin::{self, Server, port},
    process::Process,
    topology::address::{EDGE, ORIGIN},
    wait,
};

/// The service that clients reach through the edge: an echo over TCP and UDP.
pub struct Edge<'lab> {
    pub lab: &'lab Lab,
    _origins: [Server; 2],
    _proxy: Proxy<'lab>,
}

enum Proxy<'lab> {
    Nginx { _process: Process },
    Spectrum { _daemon: Daemon<'lab> },
}

impl<'lab> Edge<'lab> {
    /// Starts the service, and waits until it serves.
    ///
    /// # Errors
    /// A program is missing, or does not start.
    pub fn open(lab: &'lab Lab, defence: Defence, spectrum: PathBuf) -> Result<Self> {
        cores::split_queues(lab)?;
        let origins = [
            origin::tcp_echo(&lab.origin, port::ECHO)?,
            origin::udp_echo(&lab.origin, port::ECHO)?,
        ];
        let cookies = if defence == Defence::Nothing {
            "0"
        } else {
            "1"
        };
        let edge = &lab.edge.namespace;
        edge.set_sysctl("ipv4/tcp_syncookies", cookies)?;
        // Clients come for the first time: the kernel keeps room for hosts that it remembers.
        edge.set_sysctl("ipv4/tcp_no_metrics_save", "1")?;
        let proxy = match defence {
            Defence::Nothing | Defence::KernelCookies => nginx(lab)?,
            Defence::SynProxy => {
                let proxy = nginx(lab)?;
                synproxy(lab)?;
                proxy
            }
            Defence::Spectrum => Proxy::Spectrum {
                _daemon: shield(lab, spectrum)?,
            },
        };
        wait::until("the edge to serve", client::PATIENCE, || {
            let edge = (EDGE, port::ECHO).into();
            let stream = client::connect(&lab.client, None, edge, client::PATIENCE)?;
            client::echo_bytes(&stream, b"hello")?;
            client::echo_datagram(&client::udp(&lab.client, None, edge)?, b"hello")
        })?;
        Ok(Self {
            lab,
            _origins: origins,
            _proxy: proxy,
        })
    }
}

/// Spectrum as it comes; only what the bench itself overdoes is allowed for: all clients share one
/// address, and so do all players.
fn shield(lab: &Lab, spectrum: PathBuf) -> Result<Daemon<'_>> {
    let site = Site::with_binary(lab, spectrum, HostDocument::default())?;
    site.write_app(&AppDocument {
        protection: "syn_rate = { per_second = 1000 }",
        ..AppDocument::tcp("tcp.flood", port::ECHO)
    })?;
    site.write_app(&AppDocument::udp("udp.flood", port::ECHO))?;
    site.start()
}

fn nginx(lab: &Lab) -> Result<Proxy<'_>> {
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
         worker_processes 2; daemon off; error_log stderr crit;
         pid {}/nginx.pid;
         events {{ worker_connections 8192; }}
         stream {{
             server {{ listen {EDGE}:{port} reuseport backlog=4096; proxy_pass {ORIGIN}:{port}; }}
             server {{ listen {EDGE}:{port} udp reuseport; proxy_pass {ORIGIN}:{port}; }}
         }}\n",
        lab.dir().display(),
        port = port::ECHO,
    );
    let path = lab.dir().join("edge.conf");
    fs::write(&path, configuration)?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(&path);
    let process = Process::start(lab, &lab.edge, "edge-nginx", &mut command)
        .context("starting nginx (packages nginx, libnginx-mod-stream)")?;
    Ok(Proxy::Nginx { _process: process })
}

/// As its manual has it: SYNs untracked, and answered by the kernel until the handshake is complete.
fn synproxy(lab: &Lab) -> Result<()> {
    let rules = format!(
        "table inet flood {{
             chain pre {{
                 type filter hook prerouting priority raw;
                 tcp dport {port} tcp flags syn notrack
             }}
             chain in {{
                 type filter hook input priority filter;
                 tcp dport {port} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
                 tcp dport {port} ct state invalid drop
             }}
         }}\n",
        port = port::ECHO,
    );
    let path = lab.dir().join("synproxy.nft");
    fs::write(&path, rules)?;
    let mut nft = Command::new("nft");
    nft.arg("-f").arg(&path);
    let output = output(&lab.edge, &mut nft)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "nft (package nftables): {complaint}"
    );
    // An ACK out of nowhere begins no connection.
    let edge = &lab.edge.namespace;
    edge.set_sysctl("netfilter/nf_conntrack_tcp_loose", "0")
}
