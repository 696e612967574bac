//! Which origins a client gets that names a host: the table `[routing]`.

use super::{origins::Origins, tls::UnknownNames, words::words};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    pub by: RouteBy,
    /// What a client gets that names another host, or none.
    pub unknown: UnknownNames,
    /// At least one; no host is in two of them.
    pub routes: Vec<Route>,
}

/// Where a client names the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteBy {
    /// The server name of TLS (SNI).
    Tls,
    /// The handshake of Minecraft Java.
    Minecraft,
}

words!(RouteBy {
    Tls = "tls",
    Minecraft = "minecraft",
});

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// In lower case; one that begins with `*.` stands for all below it.
    pub hosts: Vec<String>,
    pub origins: Origins,
}
