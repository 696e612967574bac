//! How the origins of an app are checked.

use std::{ops::RangeInclusive, time::Duration};

use serde::Serialize;

use super::hex;
use crate::config::{Check, CheckKind, Exchange, Health};

#[derive(Default, Serialize)]
pub(super) struct HealthTable {
    check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    send: Option<BytesTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<BytesTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(flatten)]
    rhythm: Option<Rhythm>,
}

#[derive(Serialize)]
struct Rhythm {
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(serialize_with = "super::duration")]
    interval: Duration,
    #[serde(serialize_with = "super::duration")]
    timeout: Duration,
    rise: u32,
    fall: u32,
}

#[derive(Serialize)]
struct BytesTable {
    hex: String,
}

impl HealthTable {
    pub(super) fn new(health: Option<&Health>) -> Self {
        let Some(health) = health else {
            return Self {
                check: CheckKind::Off.word(),
                ..Self::default()
            };
        };
        let table = Self {
            check: health.check.kind().word(),
            rhythm: Some(Rhythm {
                port: health.port,
                interval: health.interval,
                timeout: health.timeout,
                rise: health.rise,
                fall: health.fall,
            }),
            ..Self::default()
        };
        match &health.check {
            Check::Tcp(Exchange { send, expect }) | Check::Udp(Exchange { send, expect }) => Self {
                send: bytes(send),
                expect: bytes(expect),
                ..table
            },
            Check::Http { path, host, status } => Self {
                path: Some(path.clone()),
                host: Some(host.clone()),
                status: Some(range(status)),
                ..table
            },
        }
    }
}

fn bytes(bytes: &[u8]) -> Option<BytesTable> {
    (!bytes.is_empty()).then(|| BytesTable { hex: hex(bytes) })
}

fn range(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}
