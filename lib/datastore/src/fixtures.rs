//! What k3s itself wrote, for tests (`BAKELITE_FIXTURES`); they skip loudly without it.

use std::fs::File;
use std::path::PathBuf;
use tempfile::TempDir;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("BAKELITE_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: BAKELITE_FIXTURES is not set, no database of k3s's is looked at");
    }
    folder
}

/// A tree, unpacked: `after-clean-stop` or `after-kill`.
pub fn tree(name: &str) -> Option<TempDir> {
    let packed = File::open(folder()?.join(format!("{name}.tar.zst"))).unwrap();
    let into = tempfile::tempdir().unwrap();
    tar::Archive::new(zstd::Decoder::new(packed).unwrap()).unpack(into.path()).unwrap();
    Some(into)
}

/// The one-transaction copy, as `copy.db` in a folder of its own.
pub fn online_copy() -> Option<(TempDir, PathBuf)> {
    let packed = File::open(folder()?.join("online-copy.db.zst")).unwrap();
    let into = tempfile::tempdir().unwrap();
    let path = into.path().join("copy.db");
    zstd::stream::copy_decode(packed, File::create(&path).unwrap()).unwrap();
    Some((into, path))
}
