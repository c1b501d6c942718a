//! What a Raspberry Pi's boot loader leaves in the device tree: how the medium that it started from is attached.
//!
//! Only those with their loader in an EEPROM (Pi 4 and later) say it; elsewhere, and in QEMU, there is nothing.

use std::path::Path;

const BOOT_MODE: &str = "/proc/device-tree/chosen/bootloader/boot-mode";

/// The transports, as [`crate::block::Disk`] calls them, that the boot medium can have; `None` where nothing is said.
pub fn boot_transports() -> Option<&'static [&'static str]> {
    transports(&std::fs::read(Path::new(BOOT_MODE)).ok()?)
}

/// The makers' numbers for BOOT_ORDER: four bytes, the highest first.
fn transports(bytes: &[u8]) -> Option<&'static [&'static str]> {
    match u32::from_be_bytes(bytes.try_into().ok()?) {
        1 => Some(&["sd", "emmc"]),
        4 | 5 => Some(&["usb", "uas"]),
        6 => Some(&["nvme"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::transports;

    #[test]
    fn numbers_are_kinds_of_media() {
        assert_eq!(transports(&[0, 0, 0, 1]), Some(&["sd", "emmc"][..]));
        assert_eq!(transports(&[0, 0, 0, 4]), Some(&["usb", "uas"][..]));
        for bytes in [&[0, 0, 0, 2][..], &[1, 0, 0, 0], &[4], &[]] {
            assert_eq!(transports(bytes), None);
        }
    }
}
