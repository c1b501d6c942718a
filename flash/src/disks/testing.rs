//! Trees as sysfs has them.

use std::io::Write;
use std::path::Path;

/// Puts a small file.
pub fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A disk at a place among the devices; `files` are below its own folder there.
pub fn disk(root: &Path, name: &str, place: &str, files: &[(&str, &str)]) {
    let folder = format!("sys/devices/{place}/block/{name}");
    for (file, text) in files {
        put(root, &format!("{folder}/{file}"), text);
    }
    std::fs::create_dir_all(root.join("sys/block")).unwrap();
    std::os::unix::fs::symlink(root.join(folder), root.join("sys/block").join(name)).unwrap();
}
