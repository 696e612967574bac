//! What `spectrum capture` asks the daemon for, and what it is sent.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which packets are wanted: those that are all of what is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub end: Option<End>,
    /// Number of the [`Reason`](spectrum_common::reason::Reason) for which a rule objected.
    pub reason: Option<u32>,
    /// Id of an app.
    pub app: Option<String>,
    pub source: Option<IpNet>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Monitored or not.
    Passed,
    Dropped,
}

/// The answer of a daemon that captures now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub interfaces: Vec<String>,
    /// At most so many bytes of each packet are there.
    pub snap_length: u32,
}

/// What follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    Packet(Packet),
    /// The last one.
    Ended {
        /// Samples that were not sent, because those before them were still being read.
        lost: u64,
        /// Absent if the client has had enough.
        why: Option<String>,
    },
}

/// A sampled packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Index of [`Started::interfaces`].
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Bytes that it had on the wire.
    pub length: u32,
    /// The first of them.
    pub bytes: Vec<u8>,
    /// What the filter did: a number of `enum xdp_action`.
    pub action: u64,
    /// Packets that it stands for.
    pub weight: u32,
    /// All that in words.
    pub comment: String,
}
