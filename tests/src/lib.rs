//! The lab.

pub mod load;
