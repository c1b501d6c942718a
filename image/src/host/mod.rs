//! What the workshop does to the machine it runs on: its files and its child processes.
//!
//! These are the host's only doors for both (clippy denies the ways around them), so that a file is either whole or
//! absent after a crash, and a failing tool always tells its command line, status and last words.

pub mod file;
pub mod tool;
