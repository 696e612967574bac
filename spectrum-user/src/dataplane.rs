//! The data plane as user space sees it: the only part of the program that knows aya.
//!
//! [`Filter`] is a loaded program with its maps. `plan` turns a configuration into what the maps
//! should hold, without touching them; `sync` writes the difference. Everything that only looks
//! ([`counters`], [`lists`], [`tables`]) works on [`Maps`], which the daemon takes from the loaded
//! program and the command line from the pins, so that it works while no daemon runs.

mod access_map;
mod access_table;
mod attach;
pub mod clock;
pub mod counters;
mod detach;
mod error;
pub mod events;
mod filter;
pub mod forward_ports;
pub mod forwards;
mod geo;
mod geo_table;
mod handshake;
mod interface;
pub mod lists;
mod maps;
mod netlink;
pub mod packet_log;
mod pins;
mod plan;
mod prepare;
mod proven;
mod random;
pub mod replay;
pub mod room;
pub mod samples;
mod shared_words;
pub mod signatures;
mod sync;
mod table_map;
pub mod tables;
mod veth;

pub use attach::AttachMode;
pub use error::Error;
pub use filter::{Filter, Inherited, TestRun};
pub use handshake::Terms;
pub use maps::Maps;
pub use pins::Pins;
pub use prepare::{Brief, Prepared};
pub use proven::Proofs;
pub use sync::Applied;
