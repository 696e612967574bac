//! `[routing]`.

use serde::Serialize;

use super::origins::OriginsTable;
use crate::config::{App, Route, Routing};

#[derive(Serialize)]
pub(super) struct RoutingTable<'a> {
    by: &'static str,
    unknown: &'static str,
    routes: Vec<RouteTable<'a>>,
}

#[derive(Serialize)]
struct RouteTable<'a> {
    hosts: &'a [String],
    origin_direct: Vec<String>,
    origins: OriginsTable,
}

impl<'a> RoutingTable<'a> {
    pub(super) fn new(app: &'a App, routing: &'a Routing) -> Self {
        let route = |route: &'a Route| RouteTable {
            hosts: &route.hosts,
            origin_direct: {
                let members = route.origins.members.iter();
                members
                    .map(|member| app.origin_url(&member.origin))
                    .collect()
            },
            origins: OriginsTable::new(app, &route.origins),
        };
        Self {
            by: routing.by.word(),
            unknown: routing.unknown.word(),
            routes: routing.routes.iter().map(route).collect(),
        }
    }
}
