//! The lab: hosts in network namespaces, real origins, clients, attackers, and a handle on the
//! daemon. What `cargo xtask run` shows and what the end-to-end tests measure is the same lab.
//!
//! In the order in which a packet meets them:
//! - [`topology`]: the hosts and the links between them; [`netns`] is what a host is made of;
//! - [`client`] and [`attack`]: who sends; [`packet`]: what attackers send;
//! - [`daemon`]: Spectrum itself, on the edge, as its users see it: documents, command line, JSON;
//! - [`origin`]: what is protected; [`certificates`]: by whom it is known;
//! - [`demo`]: all of it at once, live;
//! - [`mmdb`]: databases of where addresses are;
//! - [`load`] and [`peers`]: what is measured, and beside whom; [`flood`]: who survives an attack.
//!
//! Everything that a lab makes carries the process id of its maker in its name ([`leftovers`]),
//! so that nothing outlives it for long, however it ends.

pub mod attack;
pub mod certificates;
pub mod client;
pub mod daemon;
pub mod demo;
pub mod flood;
pub mod guest;
pub mod interrupt;
pub mod leftovers;
pub mod load;
pub mod mmdb;
pub mod netns;
pub mod origin;
pub mod packet;
pub mod peers;
pub mod process;
pub mod requirements;
pub mod topology;
pub mod wait;

pub use topology::Lab;
