//! Layouts that both halves of Spectrum share: what the XDP program and the daemon write into and
//! read from BPF maps.
//!
//! No logic lives here. Every struct is `repr(C)` without padding, holds only plain integers, and
//! says its byte order where it is not the host's. Values that cross the boundary as a number and
//! mean a choice (`mode`, `action`, …) are `u32` with constants or a `TryFrom`, because memory
//! written by the other half never becomes a Rust enum unchecked.
//!
//! A change of any layout here is a change of [`ABI_VERSION`].
#![no_std]

#[cfg(any(test, feature = "user"))]
extern crate std;

pub mod access;
pub mod address;
pub mod app;
pub mod ceiling;
pub mod counters;
pub mod edge;
pub mod event;
pub mod flow;
pub mod forward;
pub mod geo;
pub mod handshake;
pub mod maps;
pub mod proven;
pub mod reason;
pub mod refusal;
pub mod sample;
pub mod settings;
pub mod signature;
pub mod source;
pub mod surge;

#[cfg(test)]
mod layout_test;
#[cfg(feature = "user")]
mod pod;

/// Version of everything in this crate, stored in [`settings::Settings::abi_version`].
///
/// A daemon takes over the pinned maps of an earlier one only if this number is the same.
pub const ABI_VERSION: u32 = 5;
