//! How connections are spread over the origins of an app.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;

use crate::config::{App, Lookup, Member, Origins, SourceAddress};

#[derive(Serialize)]
pub(super) struct OriginsTable {
    balance: &'static str,
    retries: u32,
    #[serde(serialize_with = "super::duration")]
    slow_start: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<IpAddr>,
    transparent: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    weights: BTreeMap<String, u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backup: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    maintenance: Vec<String>,
}

impl OriginsTable {
    pub(super) fn new(app: &App, origins: &Origins) -> Self {
        let url = |member: &Member| app.origin_url(&member.origin);
        let those = |are: fn(&Member) -> bool| {
            let members = origins.members.iter().filter(|member| are(member));
            members.map(url).collect()
        };
        let weighted = origins.members.iter().filter(|member| member.weight != 1);
        Self {
            balance: origins.balance.word(),
            retries: origins.retries,
            slow_start: origins.slow_start,
            max_connections: origins.max_connections,
            sources: match &origins.source {
                SourceAddress::Pool(pool) => pool.clone(),
                SourceAddress::Route | SourceAddress::Client => Vec::new(),
            },
            transparent: origins.source == SourceAddress::Client,
            weights: weighted
                .map(|member| (url(member), member.weight))
                .collect(),
            backup: those(|member| member.rank > 0),
            maintenance: those(|member| member.maintenance),
        }
    }
}

/// The name that leads to the origins.
#[derive(Serialize)]
pub(super) struct LookupTable<'a> {
    name: &'a str,
    r#type: &'static str,
    ttl: u64,
}

impl<'a> LookupTable<'a> {
    pub(super) fn new(lookup: &'a Lookup) -> Self {
        Self {
            name: &lookup.name,
            r#type: lookup.records.word(),
            ttl: lookup.max_age.as_secs(),
        }
    }
}
