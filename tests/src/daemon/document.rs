//! Documents as an operator would write them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use crate::topology::{FRONT, address::ORIGIN};

/// `spectrum.toml`: the keys that differ between tests.
#[derive(Clone, Copy, Debug)]
pub struct HostDocument<'a> {
    pub interface: &'a str,
    pub xdp_mode: &'a str,
    pub drain: &'a str,
    /// Whether SYNs are answered; the front's other end has the program for it.
    pub syn_answers: &'a str,
    /// Further keys of the document.
    pub keys: &'a str,
    /// Lines of the table `protection`.
    pub protection: &'a str,
}

impl Default for HostDocument<'_> {
    fn default() -> Self {
        Self {
            interface: FRONT,
            xdp_mode: "native",
            drain: "2s",
            syn_answers: "on",
            keys: "",
            protection: "",
        }
    }
}

impl HostDocument<'_> {
    pub(super) fn to_toml(self, pins: &Path, control_socket: &Path, events: &Path) -> String {
        let Self {
            interface,
            xdp_mode,
            drain,
            syn_answers,
            keys,
            protection,
        } = self;
        let state = control_socket.with_file_name("state");
        format!(
            "interfaces = [{interface:?}]
xdp_mode = {xdp_mode:?}
apps_dir = \"apps.d\"
pin_dir = {pins:?}
control_socket = {control_socket:?}
state_dir = {state:?}
drain = {drain:?}
{keys}

[events]
output = {events:?}

[protection]
syn_answers = {syn_answers:?}
{protection}
"
        )
    }
}

/// One document in `apps.d/`.
#[derive(Clone, Copy, Debug)]
pub struct AppDocument<'a> {
    /// The app's name, and the document's.
    pub name: &'a str,
    /// `tcp` or `udp`.
    pub transport: &'a str,
    /// On the edge and at the origin.
    pub port: u16,
    pub origin: IpAddr,
    /// Further keys of the document.
    pub keys: &'a str,
    /// Lines of the table `protection`.
    pub protection: &'a str,
    /// Further tables.
    pub tables: &'a str,
}

impl<'a> AppDocument<'a> {
    pub const fn tcp(name: &'a str, port: u16) -> Self {
        Self {
            name,
            transport: "tcp",
            port,
            origin: IpAddr::V4(ORIGIN),
            keys: "",
            protection: "",
            tables: "",
        }
    }

    pub const fn udp(name: &'a str, port: u16) -> Self {
        Self {
            transport: "udp",
            ..Self::tcp(name, port)
        }
    }
}

impl fmt::Display for AppDocument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            transport,
            port,
            origin,
            keys,
            protection,
            tables,
        } = self;
        let origin = SocketAddr::new(*origin, *port);
        write!(
            f,
            "protocol = \"{transport}/{port}\"
origin_direct = [\"{transport}://{origin}\"]
ip_firewall = true
{keys}

[dns]
name = {name:?}
type = \"CNAME\"

[protection]
{protection}

{tables}
"
        )
    }
}
