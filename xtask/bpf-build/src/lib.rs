//! The one place that knows how to compile `spectrum-ebpf`.
//!
//! `xtask` uses it to set a machine up, `spectrum-user/build.rs` to build the object it embeds, so
//! that `cargo xtask`, a plain `cargo build` and an editor all take the same way.
//!
//! Two things are needed: a compiler that has the source of `core` ([`find`] says which will do),
//! and bpf-linker, built with an LLVM that reads that compiler's bitcode. Debian packages the
//! former; the latter is built into `target/tools` ([`install`]).

mod build;
mod compiler;
mod environment;
pub mod install;
mod toolchain;

pub use build::build_object;
pub use compiler::Rejected;
pub use environment::forget_outer_cargo;
pub use toolchain::{Missing, Toolchain, find, tools_dir};
