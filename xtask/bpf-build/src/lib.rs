//! The one place that knows how to compile `spectrum-ebpf`.
//!
//! `xtask` uses it to set a machine up, `spectrum-user/build.rs` to build the object it embeds, so
//! that `cargo xtask`, a plain `cargo build` and an editor all take the same way.

mod build;
mod toolchain;

pub use build::build_object;
pub use toolchain::{Toolchain, find, tools_dir};
