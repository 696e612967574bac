//! The lab.

pub mod load;
pub mod peers;
