//! `[routing]` of an app.

use toml::Spanned;

use super::{
    address::Protocol,
    app::host_name,
    origins,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{EdgeIps, Route, RouteBy, Routing, Transport, UnknownNames};

const KEY: &str = "routing";
const ROUTE: &str =
    "routes = [{ hosts = [\"git.example.com\"], origin_direct = [\"tcp://192.0.2.1:443\"] }]";

/// `None`: an app whose clients all get the same origins, or one whose table is wrong.
pub(super) fn read(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
    ends_tls: bool,
) -> Option<Routing> {
    let given = root.get(KEY, |_| {
        let is_udp = protocol
            .filter(|protocol| protocol.get_ref().transport == Transport::Udp)
            .map(|protocol| {
                Wrong::new("names of hosts are read over TCP", "no place for routes")
                    .beside(protocol.span(), "because of this")
                    .help("remove it, or make an app of each port")
            });
        is_udp.map_or(Ok(()), Err)
    });
    given?;
    let mut table = root.table(KEY);
    let by = table.require("by", "by = \"tls\"", |value| {
        let by = value.choice(RouteBy::WORDS)?;
        if by == RouteBy::Minecraft && ends_tls {
            return Err(
                Wrong::new("this app ends TLS", "expected `tls`").help("Minecraft speaks no TLS")
            );
        }
        Ok(by)
    });
    let unknown = table.get_or("unknown", UnknownNames::Default, |value| {
        value.choice(UnknownNames::WORDS)
    });
    let mut known: Vec<Spanned<String>> = Vec::new();
    let mut routes = Vec::new();
    for route in table.tables("routes") {
        routes.push(self::route(route, &mut known, protocol, edge_ips));
    }
    if routes.is_empty() {
        table.missing("routes", ROUTE);
    }
    table.finish();
    Some(Routing {
        by: by?.into_inner(),
        unknown,
        routes,
    })
}

fn route(
    mut table: Table<'_>,
    known: &mut Vec<Spanned<String>>,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
) -> Route {
    const HOSTS: &str = "hosts = [\"git.example.com\", \"*.git.example.com\"]";
    if !table.has("hosts") {
        table.missing("hosts", HOSTS);
    }
    let listed = table.items("hosts", &format!("for example `{HOSTS}`"), host);
    let mut hosts = Vec::new();
    for host in listed.map_or_else(Vec::new, Spanned::into_inner) {
        match known.iter().find(|other| other.get_ref() == host.get_ref()) {
            None => {
                hosts.push(host.get_ref().clone());
                known.push(host);
            }
            Some(first) => {
                let wrong = Wrong::new(format!("`{}` twice", host.get_ref()), "again here")
                    .beside(first.span(), "first here")
                    .help("remove one of them");
                table.wrong("hosts", host.span(), wrong);
            }
        }
    }
    let origins = origins::read(&mut table, protocol, edge_ips);
    if let Some(named) = table.get("origin_dns", |value| Ok(value.span())) {
        let wrong = Wrong::new("goes with the app itself only", "not for a route")
            .help("give the route's addresses in `origin_direct`");
        table.wrong("origin_dns", named.into_inner(), wrong);
    }
    table.finish();
    Route { hosts, origins }
}

/// `git.example.com` or `*.example.com`.
fn host(value: Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    let read = match text.strip_prefix("*.") {
        Some(parent) => host_name(parent).map(|parent| format!("*.{parent}")),
        None => host_name(text),
    };
    read.map_err(|wrong| wrong.help("for example `git.example.com` or `*.git.example.com`"))
}
