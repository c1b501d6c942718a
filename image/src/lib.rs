//! The workshop: one YAML in, one flashable image out.
