//! What is fuzzed, and what must hold whatever the input.
//!
//! A target is a function that takes any bytes, and panics if something is wrong. `cargo xtask fuzz`
//! runs each under libFuzzer; what makes it panic is kept in `fuzz/regressions/TARGET/`, and an
//! ordinary `cargo test` gives each of these files to its target again. `fuzz/seeds/TARGET/` has
//! inputs to begin with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a finding is told by panicking"
)]

pub mod answer;
pub mod databases;
pub mod decision;
pub mod documents;
pub mod feeds;
mod frame;
pub mod hostname;
pub mod mitigation;
pub mod packet;
pub mod proxy_protocol;
pub mod recording;
pub mod signatures;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their binaries.
pub const ALL: [(&str, Target); 11] = [
    ("packet", packet::run),
    ("answer", answer::run),
    ("decision", decision::run),
    ("signatures", signatures::run),
    ("mitigation", mitigation::run),
    ("hostname", hostname::run),
    ("proxy_protocol", proxy_protocol::run),
    ("documents", documents::run),
    ("feeds", feeds::run),
    ("databases", databases::run),
    ("recording", recording::run),
];
