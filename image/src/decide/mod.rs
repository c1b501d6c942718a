//! Decisions of a build, all pure: which packages, which modules, what the trees hold, what firmware starts, what runs.
//!
//! Nothing here writes, fetches or asks what time it is; `apply` does what is decided here.

pub mod boot;
pub mod microcode;
pub mod modules;
pub mod packages;
pub mod root;
pub mod units;
pub mod wifi;
