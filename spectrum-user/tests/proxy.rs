//! The proxy on the loopback interface, with real sockets on both sides. No test needs root.
//!
//! Tests of this file run one at a time, because each checks that the process has as many open
//! files at its end as at its start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "proxy/apply.rs"]
mod apply;
#[path = "support/authority.rs"]
mod authority;
#[path = "proxy/bandwidth.rs"]
mod bandwidth;
#[path = "proxy/health.rs"]
mod health;
#[path = "proxy/limits.rs"]
mod limits;
#[path = "proxy/origins.rs"]
mod origins;
#[path = "proxy/proofs.rs"]
mod proofs;
#[path = "proxy/queue.rs"]
mod queue;
#[path = "proxy/relay.rs"]
mod relay;
#[path = "proxy/routes.rs"]
mod routes;
#[path = "proxy/shortcuts.rs"]
mod shortcuts;
#[path = "proxy/stage.rs"]
mod stage;
#[path = "proxy/tls.rs"]
mod tls;
#[path = "proxy/udp.rs"]
mod udp;
#[path = "proxy/udp_sessions.rs"]
mod udp_sessions;
