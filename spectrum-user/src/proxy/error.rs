//! What can go wrong when the proxy starts or changes, said so that it can be mended.

use std::{io, net::SocketAddr};

use super::plan::Bind;
use crate::config::{App, Transport};

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start proxy worker {worker}: {source}")]
    Worker { worker: usize, source: io::Error },
    #[error("cannot start the thread that looks after origins: {0}")]
    Keeper(io::Error),
}

/// Why a list of apps is not served.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the apps {other} and {app} have the same id; give one of them another")]
    SameId { app: String, other: String },
    #[error(
        "the apps {other} and {app} both want {address}; \
         give one of them another port or another edge address"
    )]
    SameAddress {
        app: String,
        other: String,
        address: String,
    },
    #[error("app {app}: cannot listen on {address}: {source}; {remedy}")]
    Bind {
        app: String,
        address: String,
        source: io::Error,
        remedy: String,
    },
    #[error(
        "{needed} listening sockets are needed ({most} for app {app}), but only {free} more files \
         may be open (limit {limit}); raise the limit (LimitNOFILE= in the unit, `ulimit -n` in a \
         shell), use fewer workers or a smaller port range"
    )]
    TooManySockets {
        /// The app that needs most.
        app: String,
        most: u64,
        needed: u64,
        free: u64,
        limit: u64,
    },
    #[error("a proxy worker does not answer; restart the process, and please report this")]
    Worker,
    #[error("a proxy worker cannot watch its sockets: {0}; restart the process")]
    Register(#[from] io::Error),
}

impl ApplyError {
    pub(super) fn bind(app: &App, bind: &Bind, source: io::Error) -> Self {
        Self::Bind {
            app: app.name.clone(),
            address: bind.to_string(),
            remedy: remedy(bind.transport, bind.address, &source),
            source,
        }
    }
}

fn remedy(transport: Transport, address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let flag = match transport {
                Transport::Tcp => 't',
                Transport::Udp => 'u',
            };
            format!(
                "another program has it: `ss -{flag}lnp 'sport = :{port}'` shows which; \
                 stop it, or give the app another port"
            )
        }
        Some(libc::EADDRNOTAVAIL) => format!(
            "this host does not have the address {}: add it to an interface, or correct edge_ips",
            address.ip()
        ),
        Some(libc::EACCES) => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "no more files may be open: raise the limit, or use fewer workers or ports".to_owned()
        }
        Some(libc::EAFNOSUPPORT) => {
            "this host has no IPv6: set the connectivity of edge_ips to ipv4".to_owned()
        }
        _ => "check edge_ips and protocol".to_owned(),
    }
}
