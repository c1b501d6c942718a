//! The press: from an image to media, one or fifty, and the record of what came of them.
//!
//! `image` and `pieces` read, `disks` says what may be overwritten, `hub` and `flash` write to several at once with the engine
//! of lib/disk, `seed` makes a medium one machine's own; `factory` does it all day and remembers.

pub mod baked;
pub mod disks;
pub mod error;
pub mod factory;
mod file;
pub mod flash;
mod hub;
pub mod image;
pub mod installer;
mod pieces;
pub mod seed;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wanted;

pub use error::FlashError;
