//! EFI variables of the boot loader interface, read only: who booted us, and which entry is counted.
//!
//! The boot loader interface is systemd's (systemd.io/BOOT_LOADER_INTERFACE); strings are UTF-16.

use std::path::Path;

const FOLDER: &str = "/sys/firmware/efi/efivars";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Whether the machine was started by UEFI.
pub fn is_uefi() -> bool {
    Path::new("/sys/firmware/efi").is_dir()
}

/// A string variable of the boot loader; `None` where it isn't set.
pub fn loader(name: &str) -> Option<String> {
    decode(&std::fs::read(format!("{FOLDER}/{name}-{LOADER}")).ok()?)
}

/// Four bytes of attributes, then UTF-16 up to a zero.
fn decode(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = bytes
        .get(4..)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn attributes_are_skipped_and_the_zero_ends_it() {
        assert_eq!(decode(&[6, 0, 0, 0, b'A', 0, b'b', 0, 0, 0, b'x', 0]).as_deref(), Some("Ab"));
        assert_eq!(decode(&[6, 0]), None);
    }
}
