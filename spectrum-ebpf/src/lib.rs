//! The part of the XDP program that decides, in the order in which a packet meets it.
//!
//! - [`packet`]: bytes that may end anywhere.
//! - [`parse`]: bytes become facts about a packet.
//! - [`tables`]: what the policy asks of the configuration and of the past.
//! - [`edges`]: where they find an edge address.
//! - [`policy`]: facts and answers become a [`verdict`], by way of the lists ([`access`]), where
//!   sources are ([`geo`]), the [`signatures`], the rates of each source ([`limits`]), and the [`ceiling`] for all of them,
//!   under which those have precedence that have [`proven`] to be real.
//! - [`flows`]: connections that have proved themselves. [`surge`]: when there are too many
//!   segments that belong to none, or so many SYNs that they are answered with cookies. [`answer`]: what
//!   is answered.
//! - [`forward`]: how a UDP datagram leaves that need not meet the proxy.
//! - [`sampling`]: which verdicts are reported one by one.
//!
//! Nothing here knows a kernel. The program `spectrum-xdp` runs this code on BPF maps, the daemon
//! runs it to explain a verdict, and tests and fuzzers run it on the host.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod access;
pub mod answer;
pub mod ceiling;
mod checksum;
pub mod edges;
pub mod flows;
pub mod forward;
pub mod geo;
pub mod limits;
pub mod packet;
pub mod parse;
pub mod policy;
pub mod proven;
pub mod refusals;
pub mod sampling;
pub mod signatures;
pub mod surge;
pub mod tables;
pub mod verdict;
