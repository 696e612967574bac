//! What the mitigation engine decided, for the same log as the connections.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::record::as_text;
use crate::{config::AppId, mitigation::Evidence};

/// One decision, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MitigationRecord {
    pub event: MitigationKind,
    #[serde(serialize_with = "as_text")]
    pub application: AppId,
    /// The host's name.
    #[serde(serialize_with = "as_text")]
    pub colo_code: Arc<str>,
    /// The mitigation's id.
    pub mitigation: u32,
    /// What the packets have in common.
    pub fingerprint: String,
    /// `monitor` or `enforce`.
    pub mode: &'static str,
    /// Null for one without end.
    pub expires: Option<Timestamp>,
    /// Null for a mitigation that an earlier run installed.
    pub evidence: Option<Evidence>,
    pub timestamp: Timestamp,
}

/// What happened to the mitigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MitigationKind {
    MitigationInstalled,
    /// It still matches.
    MitigationExtended,
    /// It has stopped matching.
    MitigationExpired,
    /// The operator keeps it.
    MitigationAccepted,
    /// The operator removed it.
    MitigationRemoved,
}
