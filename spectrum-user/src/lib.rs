//! The Spectrum daemon, in the order in which data flows through it.
//!
//! - [`cli`]: the words of the command line, and what each does.
//! - [`config`]: documents become valid types, or an error that names file, line and remedy.

pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod event;
pub mod proxy;
