//! What health checks have found, for the same log as the connections.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use super::record::as_text;
use crate::config::AppId;

/// An origin that has gone down, or come up again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OriginRecord {
    pub event: OriginKind,
    #[serde(serialize_with = "as_text")]
    pub application: AppId,
    /// The host's name.
    #[serde(serialize_with = "as_text")]
    pub colo_code: Arc<str>,
    #[serde(rename = "OriginIP")]
    pub origin_ip: IpAddr,
    /// The one that belongs to the app's first port.
    pub origin_port: u16,
    /// What the last check has failed for; empty if it has passed.
    pub reason: String,
    pub timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginKind {
    OriginDown,
    OriginUp,
}
