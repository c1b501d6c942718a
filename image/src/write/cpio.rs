//! cpio archives as the kernel reads them for its initramfs (newc; kernel: Documentation/driver-api/early-userspace/buffer-format).
//!
//! Inode numbers count from 1, owner and time are those of the tree and of the image, so equal trees give equal bytes.

use crate::tree::{Node, Tree};
use std::io::{self, Read, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes a whole archive. Several archives one after the other are one initramfs to the kernel.
///
/// # Errors
/// When a file can't be read or the output can't be written.
pub fn write(tree: &Tree, time: u32, mut output: impl Write) -> io::Result<()> {
    let mut inode = 0;
    for (path, entry) in tree.entries() {
        inode += 1;
        let kind = match entry.node {
            Node::Folder => FOLDER,
            Node::File(_) => FILE,
            Node::Link(_) => LINK,
        };
        let length = match &entry.node {
            Node::Folder => 0,
            Node::File(blob) => blob.length(),
            Node::Link(target) => target.len() as u64,
        };
        let links = if kind == FOLDER { 2 } else { 1 };
        let numbers = [inode, kind | u32::from(entry.mode), entry.owner, entry.group, links, time, narrow(length)?];
        header(&mut output, numbers, path)?;
        match &entry.node {
            Node::Folder => {}
            Node::Link(target) => output.write_all(target.as_bytes())?,
            Node::File(blob) => {
                let copied = io::copy(&mut blob.open()?.take(length), &mut output)?;
                if copied != length {
                    return Err(io::Error::other(format!("{path} became shorter while it was read")));
                }
            }
        }
        pad(&mut output, length)?;
    }
    header(&mut output, [0, 0, 0, 0, 1, 0, 0], "TRAILER!!!")?;
    output.flush()
}

fn narrow(length: u64) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::other("a cpio member can't be larger than 4 GiB"))
}

fn header(output: &mut impl Write, numbers: [u32; 7], name: &str) -> io::Result<()> {
    let [inode, mode, owner, group, links, time, length] = numbers;
    let name_length = narrow(name.len() as u64 + 1)?;
    let fields = [inode, mode, owner, group, links, time, length, 0, 0, 0, 0, name_length, 0];
    output.write_all(b"070701")?;
    for field in fields {
        write!(output, "{field:08x}")?;
    }
    output.write_all(name.as_bytes())?;
    output.write_all(b"\0")?;
    pad(output, 110 + u64::from(name_length))
}

fn pad(output: &mut impl Write, length: u64) -> io::Result<()> {
    output.write_all(&[0; 3][..(length.next_multiple_of(4) - length) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_and_end_with_the_trailer() {
        let mut tree = Tree::default();
        tree.file("init", 0o755, b"#!/bin/sh\n".to_vec());
        tree.link("bin/sh", "busybox");
        let mut bytes = Vec::new();
        write(&tree, 1_700_000_000, &mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.contains("TRAILER!!!"));
        let mut again = Vec::new();
        write(&tree, 1_700_000_000, &mut again).unwrap();
        assert_eq!(bytes, again);
    }
}
