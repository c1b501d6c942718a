//! Where an image's inputs come from: Debian's packages and k3s's release files.
//!
//! Trust enters here and nowhere else: an `InRelease` signed by a pinned key vouches for `Packages`, that for each
//! .deb, and k3s's checksum list for its files. What was accepted is written into a lock; a later build obeys the
//! lock's SHA-256 alone. The parsers are pure and must never panic on foreign bytes; effects are in `http` and `cache`.

pub mod ar;
pub mod cache;
pub mod deb;
pub mod deb822;
pub mod digest;
pub mod error;
pub mod http;
pub mod k3s;
pub mod lock;
pub mod mirror;
pub mod packages;
pub mod relation;
pub mod release;
pub mod resolve;
mod suite;
pub mod trust;
pub mod version;
pub mod zstd_frames;

#[cfg(test)]
mod further_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use error::SourceError;
