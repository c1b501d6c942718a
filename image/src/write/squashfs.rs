//! squashfs with zstd (level 15, blocks of 128 KiB), by backhand: no external tool, constant memory, equal bytes for equal trees.
//!
//! backhand writes no extended attributes, so file capabilities can't be in a system partition; none is needed.

use crate::tree::{Blob, Node, Tree};
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};
use std::io::{Cursor, Seek, Write};

/// Writes a tree as squashfs; gives the number of bytes, padding to 4 KiB included.
///
/// # Errors
/// backhand's, when a file can't be read or the output can't be written.
pub fn write(tree: &Tree, time: u32, output: impl Write + Seek) -> Result<u64, BackhandError> {
    let mut writer = FilesystemWriter::default();
    writer.set_time(time);
    writer.set_block_size(128 * 1024);
    writer.set_root_mode(0o755);
    writer.set_only_root_id();
    let options = CompressionOptions::Zstd(Zstd { compression_level: 15 });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options))?);
    for (path, entry) in tree.entries() {
        let header = NodeHeader::new(entry.mode, entry.owner, entry.group, time);
        match &entry.node {
            Node::Folder => writer.push_dir(path, header)?,
            Node::Link(target) => writer.push_symlink(target, path, header)?,
            Node::File(Blob::Bytes(bytes)) => writer.push_file(Cursor::new(bytes.to_vec()), path, header)?,
            Node::File(Blob::File { path: source, .. }) => writer.push_file_from_path(source, path, header)?,
        }
    }
    let (_, length) = writer.write(output)?;
    Ok(length)
}
