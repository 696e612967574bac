//! Bounds on what an app gets, and on what its datagrams are.

use serde::Serialize;

use crate::config::{Amplification, Ceiling, Datagrams, Mode};

#[derive(Serialize)]
pub(super) struct CeilingTable {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_flows_per_second: Option<u64>,
}

impl CeilingTable {
    /// `None` if the app has no bound: documents know no ceiling without one.
    pub(super) fn new(ceiling: &Ceiling) -> Option<Self> {
        let table = Self {
            mode: ceiling.mode.word(),
            packets_per_second: ceiling.packets_per_second,
            bytes_per_second: ceiling.bytes_per_second,
            new_flows_per_second: ceiling.new_flows_per_second,
        };
        let has_bound = table.packets_per_second.is_some()
            || table.bytes_per_second.is_some()
            || table.new_flows_per_second.is_some();
        (has_bound || ceiling.mode == Mode::Off).then_some(table)
    }
}

#[derive(Serialize)]
pub(super) struct DatagramsTable {
    mode: &'static str,
    min: u16,
    max: u16,
}

impl From<Datagrams> for DatagramsTable {
    fn from(datagrams: Datagrams) -> Self {
        Self {
            mode: datagrams.mode.word(),
            min: datagrams.min,
            max: datagrams.max,
        }
    }
}

#[derive(Serialize)]
pub(super) struct AmplificationTable {
    mode: &'static str,
    ratio: u32,
}

impl From<Amplification> for AmplificationTable {
    fn from(amplification: Amplification) -> Self {
        Self {
            mode: amplification.mode.word(),
            ratio: amplification.ratio,
        }
    }
}
