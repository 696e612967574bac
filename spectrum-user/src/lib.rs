//! The Spectrum daemon, in the order in which data flows through it.
//!
//! - [`cli`]: the words of the command line, and what each does.
//! - [`config`]: documents become valid types, or an error that names file, line and remedy.
//! - [`daemon`]: the life of the process; hands the configuration to the next two.
//! - [`feeds`]: lists that others keep. [`geo`]: where addresses are, by databases that others keep.
//! - [`dataplane`]: the XDP filters and their maps.
//! - [`mitigation`]: samples of what comes become signatures that the filters enforce.
//! - [`tls`]: certificates and keys, read from files and again when these change.
//! - [`proxy`]: what passes the filters, on its way to the origins; [`event`] keeps the record.
//! - [`status`], [`capture`] and [`control`]: what the daemon answers, and how it is asked.

pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
mod edition;
pub mod event;
pub mod feeds;
pub mod geo;
pub mod mitigation;
pub mod proxy;
pub mod recording;
pub mod status;
pub mod tls;
