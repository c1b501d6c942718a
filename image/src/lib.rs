//! The workshop: one YAML in, one flashable image out.

pub mod host;
pub mod progress;
pub mod source;
