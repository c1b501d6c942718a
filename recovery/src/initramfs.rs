//! What an initramfs says of the image that it is of: its last archive holds the manifest.

use bakelite_disk::cpio;
use bakelite_spec::manifest::Manifest;

/// The manifest in an initramfs; `None` where there is none that can be read.
pub fn manifest(bytes: &[u8]) -> Option<Manifest> {
    serde_json::from_slice(cpio::last(bytes, "bakelite/manifest.json")?).ok()
}
