//! Microcode of x86 processors: what the kernel applies before anything else, out of the uncompressed initramfs (kernel:
//! Documentation/arch/x86/microcode.rst).
//!
//! One file a maker, which is all of the packages' files one behind the other; the kernel picks its processor's. An image
//! whose packages bring none gets none. What is in the files isn't judged here: processors check the signatures.

use crate::tree::{Blob, Tree};
use std::io;

/// Where the packages' files are, how their names begin, and where the kernel looks for them in the initramfs.
const MAKERS: &[(&str, &str, &str)] = &[
    ("usr/lib/firmware/amd-ucode/", "microcode_amd", "kernel/x86/microcode/AuthenticAMD.bin"),
    ("usr/lib/firmware/intel-ucode/", "", "kernel/x86/microcode/GenuineIntel.bin"),
];

/// The files for the initramfs, by their paths there.
///
/// # Errors
/// When a file of a package can't be read.
pub fn files(packages: &Tree) -> io::Result<Vec<(&'static str, Blob)>> {
    let mut made = Vec::new();
    for (folder, start, target) in MAKERS {
        let mut bytes = Vec::new();
        for (path, _) in packages.entries() {
            let name = path.strip_prefix(folder).filter(|name| name.starts_with(start) && is_data(name));
            if let (Some(_), Some(blob)) = (name, packages.blob(path)) {
                bytes.extend(blob.read()?);
            }
        }
        if !bytes.is_empty() {
            made.push((*target, Blob::from(bytes)));
        }
    }
    Ok(made)
}

/// No signature of a file. What Debian calls `.initramfs` may be applied only as early as here.
fn is_data(name: &str) -> bool {
    name.rsplit_once('.').is_none_or(|(_, ending)| matches!(ending, "bin" | "initramfs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makers_files_are_one_in_the_order_of_their_names() {
        let mut packages = Tree::default();
        for (path, text) in [
            ("intel-ucode/06-55-04", "b"),
            ("intel-ucode/06-4f-01", "a"),
            ("intel-ucode/06-8e-09.initramfs", "c"),
            ("amd-ucode/microcode_amd_fam17h.bin", "amd"),
            ("amd-ucode/microcode_amd_fam17h.bin.asc", "x"),
            ("amd-ucode/README", "x"),
        ] {
            packages.file(&format!("usr/lib/firmware/{path}"), 0o644, text.as_bytes().to_vec());
        }
        let files = files(&packages).unwrap();
        let texts: Vec<_> = files.iter().map(|(path, blob)| (*path, blob.read().unwrap())).collect();
        let expected = [("AuthenticAMD.bin", &b"amd"[..]), ("GenuineIntel.bin", b"abc")]
            .map(|(name, bytes)| (format!("kernel/x86/microcode/{name}"), bytes));
        assert!(texts.iter().map(|(path, bytes)| (path.to_string(), &bytes[..])).eq(expected));
        assert!(super::files(&Tree::default()).unwrap().is_empty());
    }
}
