//! Writers: one format a file, deterministic. The same input gives the same bytes, whoever runs them and when.

pub mod bmap;
pub mod cpio;
pub mod fat;
pub mod squashfs;
pub mod zst;
