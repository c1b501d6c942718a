//! Volumes and archives that were written are read back as they were, and spoilt ones end in words.

use super::*;
use crate::tree::Tree;
use crate::write::{cpio, fat as fat_writer};
use proptest::prelude::*;
use std::sync::OnceLock;

/// The smallest that is FAT32 with clusters of 4 KiB, in bytes.
const LENGTH: u64 = 260 << 20;

fn trees() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let path = "([a-z]{1,12}/){0,3}[A-Za-z][A-Za-z0-9+_.-]{0,20}[a-z0-9]";
    // A folder's name never ends as a file's does, and FAT knows no case.
    let content = proptest::collection::vec(any::<u8>(), 0..9000);
    proptest::collection::btree_map(path.prop_map(|path| format!("{}.f", path.to_lowercase())), content, 1..8)
}

fn tree(files: &BTreeMap<String, Vec<u8>>) -> Tree {
    let mut tree = Tree::default();
    files.iter().for_each(|(path, content)| tree.file(path, 0o644, content.clone()));
    tree
}

fn volume(files: &BTreeMap<String, Vec<u8>>) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    fat_writer::write(&tree(files), 1_763_719_271, 7, LENGTH, Window::new(&mut file, 0, LENGTH)).unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_volume_that_was_written_is_read_as_it_was(files in trees()) {
        let file = volume(&files);
        let read_at = |at, bytes: &mut [u8]| file.read_exact_at(bytes, at);
        let volume = fat::read(&read_at, LENGTH).unwrap();
        prop_assert!(volume.problems.is_empty() && volume.bad_dates.is_empty(), "{:?}", volume.problems);
        let read: BTreeMap<String, Vec<u8>> =
            volume.files.keys().map(|path| (path.clone(), volume.content(&read_at, path).unwrap())).collect();
        prop_assert_eq!(read, files);
    }

    #[test]
    fn archives_one_after_the_other_are_read_as_they_were(first in trees(), second in trees()) {
        let mut bytes = Vec::new();
        for files in [&first, &second] {
            cpio::write(&tree(files), 7, &mut bytes).unwrap();
        }
        let members = read_cpio(&bytes).unwrap();
        for (path, content) in first.iter().filter(|(path, _)| !second.contains_key(*path)).chain(&second) {
            prop_assert_eq!(&members[path].content, content);
        }
    }
}

proptest! {
    #[test]
    fn a_spoilt_volume_ends_in_words(spoilt in proptest::collection::vec((0u64..700_000, any::<u8>()), 1..12)) {
        static WHOLE: OnceLock<File> = OnceLock::new();
        let whole = WHOLE.get_or_init(|| volume(&[("a/b.f".into(), vec![1; 9000]), ("c.f".into(), vec![2; 5])].into()));
        let read_at = |at: u64, bytes: &mut [u8]| {
            whole.read_exact_at(bytes, at)?;
            for (place, byte) in &spoilt {
                if let Some(spot) = place.checked_sub(at).and_then(|inside| bytes.get_mut(inside as usize)) {
                    *spot = *byte;
                }
            }
            Ok(())
        };
        if let Ok(volume) = fat::read(&read_at, LENGTH) {
            for path in volume.files.keys() {
                let _ = volume.content(&read_at, path);
            }
        }
    }

    #[test]
    fn a_spoilt_archive_ends_in_words(place in any::<proptest::sample::Index>(), byte in any::<u8>(), end in any::<proptest::sample::Index>()) {
        let mut bytes = Vec::new();
        cpio::write(&tree(&[("a/b.f".into(), vec![1; 300])].into()), 7, &mut bytes).unwrap();
        let spot = place.index(bytes.len());
        bytes[spot] = byte;
        bytes.truncate(end.index(bytes.len()) + 1);
        let _ = read_cpio(&bytes);
    }
}
