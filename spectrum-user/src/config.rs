//! The configuration: `spectrum.toml` for the host, one document per app in `apps.d/`.
//!
//! Nothing else in the program reads a configuration file. What comes out of here is valid.

mod app;
mod host;
mod protection;

pub use app::{
    App, AppId, Connectivity, EdgeIps, HeaderOn, Limits, Origin, PortRange, ProxyProtocol,
    Timeouts, Transport,
};
pub use host::{EventOutput, Host, XdpMode};
pub use protection::{Mode, Protection, Rate};

/// A whole valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub host: Host,
    /// Sorted by name.
    pub apps: Vec<std::sync::Arc<App>>,
}
