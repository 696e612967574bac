//! The Spectrum daemon, in the order in which data flows through it.
//!
//! - [`config`]: documents become valid types, or an error that names file, line and remedy.
pub mod config;
pub mod event;
pub mod proxy;
