//! What the writer makes is read by backhand and by Debian's unsquashfs, with the same bytes for any number of threads.

use super::*;
use crate::derived::Derived;
use crate::host::file;
use crate::tree::Entry;
use backhand::{FilesystemReader, InnerNode};
use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read};

/// Bytes that don't shrink.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tree with everything that takes a turn of its own: many entries in one folder, long and empty files, owners.
fn tree() -> Tree {
    let mut tree = Tree::default();
    for number in 0..3000 {
        let content = format!("number {number} of many\n").repeat(number % 40);
        tree.file(&format!("usr/lib/many/a-rather-long-name-{number:05}"), 0o644, content);
    }
    tree.file("usr/bin/text", 0o755, "all work and no play\n".repeat(50_000));
    tree.file("usr/bin/noise", 0o755, noise(700_001, 7));
    tree.file("usr/bin/same", 0o600, noise(700_001, 7));
    tree.file("usr/bin/block", 0o644, noise(BLOCK as usize, 9));
    tree.file("empty", 0o400, "");
    tree.file("usr.file", 0o644, "sorts between usr and usr/bin");
    tree.link("bin", "usr/bin");
    tree.folder("var/empty");
    let node = Node::File(Blob::from("owned"));
    tree.put("etc/owned", Entry { mode: 0o640, owner: 102, group: 65534, node });
    tree
}

fn write(tree: &Tree, keep: Option<(&Derived, &Work)>, threads: usize) -> Vec<u8> {
    let mut output = Cursor::new(Vec::new());
    let mut writer = Writer::new(&mut output, keep, threads).unwrap();
    let blobs: Vec<&Blob> = tree
        .entries()
        .filter_map(|(_, entry)| if let Node::File(blob) = &entry.node { Some(blob) } else { None })
        .collect();
    let (first, second) = blobs.split_at(blobs.len() / 2);
    writer.groups(&[first.to_vec(), second.to_vec()]).unwrap();
    let length = writer.finish(tree, 1_763_719_271).unwrap();
    let bytes = output.into_inner();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// Path, mode, owner, group, and content, target or nothing.
type Shown = BTreeMap<String, (u16, u32, u32, Vec<u8>)>;

#[test]
fn what_is_written_reads_the_same() {
    let tree = tree();
    let bytes = write(&tree, None, 2);
    let reader = FilesystemReader::from_reader(BufReader::new(Cursor::new(bytes))).unwrap();
    let mut found = Shown::new();
    for node in reader.files() {
        let content = match &node.inner {
            InnerNode::File(file) => {
                let mut content = Vec::new();
                reader.file(file).reader().read_to_end(&mut content).unwrap();
                content
            }
            InnerNode::Symlink(link) => link.link.to_string_lossy().into_owned().into_bytes(),
            _ => Vec::new(),
        };
        let path = node.fullpath.to_string_lossy().trim_start_matches('/').to_string();
        found.insert(path, (node.header.permissions, node.header.uid, node.header.gid, content));
    }
    assert_eq!(found.remove("").map(|root| root.0), Some(0o755));
    let wanted: Shown = tree
        .entries()
        .map(|(path, entry)| {
            let content = match &entry.node {
                Node::Folder => Vec::new(),
                Node::File(blob) => blob.read().unwrap(),
                Node::Link(target) => target.clone().into_bytes(),
            };
            (path.to_string(), (entry.mode, entry.owner, entry.group, content))
        })
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (path, shown) in &wanted {
        assert!(found[path] == *shown, "{path}");
    }
}

#[test]
fn unsquashfs_reads_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("system");
    crate::host::file::write(&path, &write(&tree(), None, 2)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "an oracle, in a test")]
    let unsquashfs = |arguments: &[&str]| std::process::Command::new("unsquashfs").args(arguments).arg(&path).output();
    let Ok(listed) = unsquashfs(&["-lln"]) else {
        eprintln!("SKIPPED: unsquashfs is not installed (package squashfs-tools), the writer is not compared with it");
        return;
    };
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(
        text.lines().any(|line| line.starts_with("-rw-r----- 102/65534") && line.ends_with("/etc/owned")),
        "{text}"
    );
    assert_eq!(text.lines().filter(|line| line.contains("/many/")).count(), 3000);
    let target = folder.path().join("out");
    let unpacked = unsquashfs(&["-no-progress", "-d", target.to_str().unwrap()]).unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    assert!(std::fs::read(target.join("usr/bin/same")).unwrap() == noise(700_001, 7));
}

#[test]
fn threads_and_the_cache_change_no_byte() {
    let tree = tree();
    let one = write(&tree, None, 1);
    assert!(one == write(&tree, None, 7));
    let folder = tempfile::tempdir().unwrap();
    let derived = Derived::open(folder.path()).unwrap();
    let work = derived.work().unwrap();
    let packs = || std::fs::read_dir(folder.path().join("made/1/blocks")).unwrap().map(|entry| entry.unwrap().path());
    assert!(one == write(&tree, Some((&derived, &work)), 3));
    assert_eq!(packs().count(), 2);
    assert!(one == write(&tree, Some((&derived, &work)), 2));
    // A damaged pack is made anew, whatever is wrong with it.
    for pack in packs().collect::<Vec<_>>() {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        crate::host::file::write(&pack, &bytes).unwrap();
    }
    assert!(one == write(&tree, Some((&derived, &work)), 2));
    for pack in packs().collect::<Vec<_>>() {
        crate::host::file::write(&pack, b"short").unwrap();
    }
    assert!(one == write(&tree, Some((&derived, &work)), 2));
}

#[test]
fn content_is_there_once_and_noise_stays_as_it_is() {
    let bytes = write(&tree(), None, 2);
    // Both copies of the noise take one place; neither it nor the block shrinks; the text does.
    assert!((700_001 + BLOCK as usize..1_200_000).contains(&bytes.len()), "{}", bytes.len());
}

#[test]
fn a_file_that_changes_meanwhile_is_told_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let derived = Derived::open(&folder.path().join("cache")).unwrap();
    let work = derived.work().unwrap();
    for length in [1000, 3 * BLOCK as usize + 17] {
        let path = folder.path().join("till");
        file::write(&path, "text ".repeat(length).as_bytes()).unwrap();
        let blob = Blob::file(path.clone()).unwrap();
        let write = || {
            let mut writer = Writer::new(Cursor::new(Vec::new()), Some((&derived, &work)), 2).unwrap();
            writer.groups(&[vec![&blob]])
        };
        file::write(&path, "Text ".repeat(length).as_bytes()).unwrap();
        assert_eq!(
            write().unwrap_err().to_string(),
            format!("{} was changed while the image was built; build again", path.display())
        );
        file::write(&path, "text ".repeat(length).as_bytes()).unwrap();
        write().unwrap();
    }
}
