//! The workshop: one YAML in, one flashable image out.
//!
//! `source` brings packages and payload, `decide` (pure) says what an image is made of, `write` knows the formats,
//! `apply` does it. The same inputs give the same bytes: on any machine, as any user, in any folder, at any hour.

pub mod apply;
pub mod binaries;
#[cfg(test)]
mod board_tests;
pub mod boards;
pub mod bundle;
pub mod config;
pub mod decide;
mod depmod;
pub mod derived;
pub mod elf;
pub mod error;
pub mod firmware;
pub mod host;
pub mod inspect;
pub mod lint;
#[cfg(test)]
mod makers_kernel_tests;
pub mod opened;
pub mod outputs;
pub mod parallel;
pub mod payload;
mod plain;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod recovery;
pub mod repositories;
pub mod sbom;
pub mod source;
pub mod start;
pub mod stick;
pub mod tree;
pub mod unpack;
pub mod user;
pub mod workshop;
pub mod write;

pub use error::BuildError;
