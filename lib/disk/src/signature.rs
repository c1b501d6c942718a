//! What a disk holds, by the magic bytes at known places: for a person's eyes, never as a permit.
//!
//! The permit to write is [`crate::blank`]'s proof, which also reads every place in this table. So a format that isn't
//! known here is refused all the same; it only goes without a name.

use crate::{DiskError, read_at};
use std::io::{Read, Seek};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Where a magic stands.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Bytes from the start.
    Start(u64),
    /// Bytes from the end.
    End(u64),
    /// Bytes from the end, rounded down to a multiple of 64 KiB (Linux RAID 0.90).
    End64,
}

/// Formats by their magic, from the headers of their own sources (libblkid's tables have the same places).
const TABLE: &[(&str, At, &[u8])] = &[
    ("LUKS", At::Start(0), b"LUKS\xba\xbe"),
    ("LUKS", At::Start(16 * KIB), b"SKUL\xba\xbe"),
    ("LVM", At::Start(0), b"LABELONE"),
    ("LVM", At::Start(512), b"LABELONE"),
    ("LVM", At::Start(1024), b"LABELONE"),
    ("LVM", At::Start(1536), b"LABELONE"),
    ("Linux RAID", At::Start(0), b"\xfc\x4e\x2b\xa9"),
    ("Linux RAID", At::Start(4 * KIB), b"\xfc\x4e\x2b\xa9"),
    ("Linux RAID", At::End(8 * KIB), b"\xfc\x4e\x2b\xa9"),
    ("Linux RAID", At::End64, b"\xfc\x4e\x2b\xa9"),
    ("Intel RAID", At::End(1024), b"Intel Raid ISM Cfg Sig. "),
    ("firmware RAID", At::End(512), b"\xde\x11\xde\x11"),
    ("ZFS", At::Start(128 * KIB), b"\x0c\xb1\xba\x00"),
    ("ZFS", At::Start(132 * KIB), b"\x0c\xb1\xba\x00"),
    ("ZFS", At::End(384 * KIB), b"\x0c\xb1\xba\x00"),
    ("bcache", At::Start(4 * KIB + 24), b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("Ceph", At::Start(0), b"bluestore block device"),
    ("BitLocker", At::Start(3), b"-FVE-FS-"),
    ("NTFS", At::Start(3), b"NTFS    "),
    ("exFAT", At::Start(3), b"EXFAT   "),
    ("FAT", At::Start(54), b"FAT"),
    ("FAT", At::Start(82), b"FAT32"),
    ("ext4", At::Start(1080), b"\x53\xef"),
    ("XFS", At::Start(0), b"XFSB"),
    ("Btrfs", At::Start(64 * KIB + 64), b"_BHRfS_M"),
    ("Btrfs", At::Start(64 * MIB + 64), b"_BHRfS_M"),
    ("Btrfs", At::Start(256 * 1024 * MIB + 64), b"_BHRfS_M"),
    ("F2FS", At::Start(1024), b"\x10\x20\xf5\xf2"),
    ("APFS", At::Start(32), b"NXSB"),
    ("HFS+", At::Start(1024), b"H+"),
    ("VMFS", At::Start(MIB), b"\x0d\xd0\x01\xc0"),
    ("swap", At::Start(4086), b"SWAPSPACE2"),
    ("ISO 9660", At::Start(32 * KIB + 1), b"CD001"),
    ("UDF", At::Start(32 * KIB + 1), b"BEA01"),
    ("squashfs", At::Start(0), b"hsqs"),
    ("EROFS", At::Start(1024), b"\xe2\xe1\xf5\xe0"),
    ("a partition table (GPT)", At::Start(512), b"EFI PART"),
    ("a partition table (GPT)", At::Start(4 * KIB), b"EFI PART"),
    ("a partition table (GPT)", At::End(512), b"EFI PART"),
    ("a partition table or boot code (MBR)", At::Start(510), b"\x55\xaa"),
];

/// All places at which a format is known by its magic, within a medium of a length.
pub fn places(length: u64) -> impl Iterator<Item = u64> {
    TABLE.iter().filter_map(move |(_, at, magic)| place(*at, magic.len() as u64, length))
}

fn place(at: At, magic: u64, length: u64) -> Option<u64> {
    let at = match at {
        At::Start(at) => at,
        At::End(back) => length.checked_sub(back)?,
        At::End64 => (length / (64 * KIB) * 64 * KIB).checked_sub(64 * KIB)?,
    };
    (at.checked_add(magic)? <= length).then_some(at)
}

/// The label of a file system of a kind that [`recognise`] names; empty where it has none or isn't known here.
///
/// # Errors
/// When the medium can't be read.
pub fn label(medium: &mut (impl Read + Seek), start: u64, kind: &str) -> Result<String, DiskError> {
    let mut head = [0u8; 2048];
    read_at(medium, start, &mut head)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_string();
    Ok(match kind {
        // Microsoft's FAT specification, the boot sector: a FAT32 names itself at 82.
        "FAT" if head[82..].starts_with(b"FAT32") => text(&head[71..82]),
        "FAT" => text(&head[43..54]),
        // ext4's superblock (kernel, Documentation/filesystems/ext4/super.rst): s_volume_name.
        "ext4" => text(&head[1024 + 120..1024 + 136]),
        "exFAT" => exfat_label(medium, start, &head)?,
        _ => String::new(),
    })
}

/// Microsoft's exFAT specification, 3.1 and 7.3: an entry of the root folder, as good as always its first.
fn exfat_label(medium: &mut (impl Read + Seek), start: u64, head: &[u8; 2048]) -> Result<String, DiskError> {
    const ENTRY: usize = 32;
    const LABEL: u8 = 0x83;
    let number = |at: usize| u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let (heap, root, sector, cluster) = (number(88), number(96), head[108], head[109]);
    if !(9..=12).contains(&sector) || cluster > 16 || root < 2 {
        return Ok(String::new());
    }
    let mut entries = [0u8; 512];
    read_at(medium, start + (heap << sector) + ((root - 2) << (sector + cluster)), &mut entries)?;
    let label = entries.chunks_exact(ENTRY).find(|entry| entry[0] == LABEL);
    let units = label.map_or(Vec::new(), |entry| {
        let units = entry[2..24].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        units.take(usize::from(entry[1])).collect()
    });
    Ok(String::from_utf16_lossy(&units))
}

/// The formats that can be seen in a range of a medium, each once, the most telling one first.
///
/// # Errors
/// When the medium can't be read.
pub fn recognise(medium: &mut (impl Read + Seek), start: u64, length: u64) -> Result<Vec<&'static str>, DiskError> {
    let mut found: Vec<&'static str> = Vec::new();
    for (name, at, magic) in TABLE {
        let Some(at) = place(*at, magic.len() as u64, length) else { continue };
        let mut bytes = vec![0u8; magic.len()];
        read_at(medium, start + at, &mut bytes)?;
        if bytes == *magic && !found.contains(name) {
            found.push(name);
        }
    }
    // A boot sector's mark also ends a FAT, an NTFS and a protective MBR: it tells nothing there.
    if found.len() > 1 {
        found.retain(|name| !name.contains("MBR"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn labels_stand_where_each_format_has_them() {
        let labelled = |places: &[(usize, &[u8])], kind: &str| {
            let mut bytes = vec![0u8; 1 << 17];
            for (at, text) in places {
                bytes[*at..at + text.len()].copy_from_slice(text);
            }
            label(&mut Cursor::new(bytes), 0, kind).unwrap()
        };
        assert_eq!(labelled(&[(71, b"BAKELITE   "), (82, b"FAT32   ")], "FAT"), "BAKELITE");
        assert_eq!(labelled(&[(43, b"BAKELITE   "), (54, b"FAT16   ")], "FAT"), "BAKELITE");
        assert_eq!(labelled(&[(1144, b"BAKELITE")], "ext4"), "BAKELITE");
        // Sectors of 512 bytes, clusters of 8; the heap from sector 64 on, the root folder in its cluster 4.
        let boot: [(usize, &[u8]); 3] = [(88, &[64, 0, 0, 0]), (96, &[4, 0, 0, 0]), (108, &[9, 3])];
        let root = 64 * 512 + 2 * 4096;
        let entry = [&[0x83, 3][..], &[b'B', 0, b'A', 0, b'K', 0]].concat();
        assert_eq!(labelled(&[&boot[..], &[(root, &entry)]].concat(), "exFAT"), "BAK");
        assert_eq!(labelled(&[], "exFAT"), "");
    }

    #[test]
    fn formats_are_named_by_their_magic() {
        for (name, at, magic) in TABLE {
            let length = 1 << 20;
            let Some(at) = place(*at, magic.len() as u64, length) else { continue };
            let mut bytes = vec![0u8; length as usize];
            let at = at as usize;
            bytes[at..at + magic.len()].copy_from_slice(magic);
            let found = recognise(&mut Cursor::new(bytes), 0, length).unwrap();
            assert!(found.contains(name), "{name} at {at}: {found:?}");
        }
        assert!(recognise(&mut Cursor::new(vec![0u8; 1 << 20]), 0, 1 << 20).unwrap().is_empty());
        assert!(recognise(&mut Cursor::new(vec![0u8; 100]), 0, 100).unwrap().is_empty(), "too small is no error");
    }

    #[test]
    fn a_boot_sectors_mark_is_told_only_where_nothing_better_is_known() {
        let mut bytes = vec![0u8; 1 << 20];
        bytes[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(recognise(&mut Cursor::new(&bytes), 0, 1 << 20).unwrap().len(), 1);
        bytes[3..11].copy_from_slice(b"NTFS    ");
        assert_eq!(recognise(&mut Cursor::new(&bytes), 0, 1 << 20).unwrap(), ["NTFS"]);
    }
}
