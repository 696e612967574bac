//! Bounds on what an app lets in and holds open.

use std::time::Duration;

use serde::Serialize;

use crate::config::{Bandwidth, ConnectionRate, Limits, NewConnections, Queue, Ways};

#[derive(Serialize)]
pub(super) struct LimitsTable {
    connections: u32,
    connections_per_prefix: u32,
    connections_per_source: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_connections_per_second: Option<NewConnectionsTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth: Option<BandwidthTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<QueueTable>,
}

#[derive(Serialize)]
struct QueueTable {
    length: u32,
    #[serde(serialize_with = "super::duration")]
    timeout: Duration,
}

#[derive(Serialize)]
struct NewConnectionsTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_source: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_source_burst: Option<u32>,
}

impl From<Limits> for LimitsTable {
    fn from(limits: Limits) -> Self {
        Self {
            connections: limits.connections,
            connections_per_prefix: limits.connections_per_prefix,
            connections_per_source: limits.connections_per_source,
            new_connections_per_second: NewConnectionsTable::new(limits.new_connections),
            bandwidth: BandwidthTable::new(limits.bandwidth),
            queue: limits
                .queue
                .map(|Queue { length, timeout }| QueueTable { length, timeout }),
        }
    }
}

impl NewConnectionsTable {
    /// `None` if there is nothing to say.
    fn new(rates: NewConnections) -> Option<Self> {
        let per_second = |rate: ConnectionRate| rate.per_second;
        let burst = |rate: ConnectionRate| rate.burst;
        (rates != NewConnections::default()).then(|| Self {
            app: rates.app.map(per_second),
            app_burst: rates.app.map(burst),
            per_source: rates.per_source.map(per_second),
            per_source_burst: rates.per_source.map(burst),
        })
    }
}

/// Bytes per second.
#[derive(Serialize)]
struct BandwidthTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    per_connection: Option<WaysTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_source: Option<WaysTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<WaysTable>,
}

#[derive(Serialize)]
struct WaysTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<u64>,
}

impl BandwidthTable {
    /// `None` if there is nothing to say.
    fn new(bandwidth: Bandwidth) -> Option<Self> {
        (!bandwidth.is_unlimited()).then(|| Self {
            per_connection: WaysTable::new(bandwidth.per_connection),
            per_source: WaysTable::new(bandwidth.per_source),
            app: WaysTable::new(bandwidth.app),
        })
    }
}

impl WaysTable {
    fn new(Ways { up, down }: Ways) -> Option<Self> {
        (up.is_some() || down.is_some()).then_some(Self { up, down })
    }
}
