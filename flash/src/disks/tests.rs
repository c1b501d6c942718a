//! A host with all that people have: which disks are seen, who uses them, and which of them may be overwritten.

use super::choose::{again, candidates, named, permit};
use super::testing::{disk, put};
use super::*;

const GIB: u64 = 1 << 30;
/// Sectors of so many GiB.
fn sectors(gib: u64) -> String {
    (gib * GIB / 512).to_string()
}

fn host() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let nvme = sectors(500);
    disk(
        root,
        "nvme0n1",
        "pci0000:00/0000:00:01.0/nvme/nvme0/nvme0n1",
        &[
            ("size", &nvme),
            ("dev", "259:0\n"),
            ("device/model", "Fast 500  \n"),
            ("device/serial", "NV1\n"),
            ("nvme0n1p1/partition", "1"),
            ("nvme0n1p1/dev", "259:1\n"),
            ("nvme0n1p2/partition", "2"),
            ("nvme0n1p2/dev", "259:2\n"),
            ("nvme0n1p2/holders/dm-0", ""),
        ],
    );
    disk(
        root,
        "dm-0",
        "virtual",
        &[("size", "1"), ("dev", "253:0\n"), ("dm/name", "luks-home\n"), ("holders/dm-1", "")],
    );
    disk(root, "dm-1", "virtual", &[("size", "1"), ("dev", "253:1\n"), ("dm/name", "vg-root\n")]);
    let usb = |name: &str, port: &str, gib: u64, more: &[(&str, &str)]| {
        let place = format!("pci0000:00/0000:00:14.0/usb1/1-{port}/1-{port}:1.0/host0/target0:0:0/0:0:0:0");
        let size = sectors(gib);
        let sequence = format!("{port}0");
        let mut files = vec![
            ("size", size.as_str()),
            ("device/vendor", "Generic "),
            ("device/model", "Reader"),
            ("diskseq", &sequence),
        ];
        files.extend(more);
        disk(root, name, &place, &files);
        put(root, &format!("sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}/idVendor"), "1234");
        put(root, &format!("sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}/serial"), &format!("SER{port}\n"));
        std::fs::create_dir_all(root.join("dev/disk/by-path")).unwrap();
        let link = root.join(format!("dev/disk/by-path/usb-0:{port}"));
        std::os::unix::fs::symlink(format!("../../{name}"), link).unwrap();
    };
    usb("sdb", "2", 32, &[("removable", "1")]);
    usb("sdc", "3", 32, &[("sdc1/partition", "1"), ("sdc1/dev", "8:33")]);
    usb("sdd", "4", 2000, &[]);
    usb("sde", "5", 0, &[]);
    usb("sdf", "6", 32, &[("ro", "1")]);
    let card = sectors(64);
    disk(root, "mmcblk0", "platform/mmc0", &[("size", &card), ("device/type", "SD"), ("device/name", "SC64G")]);
    disk(root, "mmcblk1", "platform/mmc1", &[("size", &card), ("device/type", "MMC"), ("device/name", "eMMC")]);
    disk(root, "mmcblk1boot0", "platform/mmc1", &[("size", "8192")]);
    disk(root, "loop0", "virtual", &[("size", "0")]);
    let table = "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n\
                 23 1 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw\n\
                 24 1 0:40 / /media/a\\040b rw - btrfs /dev/sdc1 rw\n";
    put(root, "proc/self/mountinfo", table);
    put(root, "proc/swaps", "Filename Type Size\n");
    folder
}

#[test]
fn disks_are_told_with_port_serial_and_all_their_users() {
    let host = host();
    let found = disks(host.path());
    let names: Vec<&str> = found.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["mmcblk0", "mmcblk1", "nvme0n1", "sdb", "sdc", "sdd", "sde", "sdf"]);
    let of = |name: &str| found.iter().find(|disk| disk.name == name).unwrap();
    let stick = of("sdb");
    assert_eq!((stick.transport.as_str(), stick.port.as_str(), stick.serial.as_str()), ("usb", "usb-0:2", "SER2"));
    assert_eq!(stick.words(), "Generic Reader, 32 GiB, usb");
    assert!(of("mmcblk0").removable && !of("mmcblk1").removable && of("mmcblk1").transport == "emmc");
    let system = of("nvme0n1");
    assert!(system.system);
    assert_eq!(
        system.users,
        [
            "dm-0 is part of dm-1 (vg-root)",
            "mounted at /",
            "mounted at /boot/efi",
            "nvme0n1p2 is part of dm-0 (luks-home)"
        ]
    );
    assert_eq!(of("sdc").users, ["mounted at /media/a b"]);
}

#[test]
fn only_what_is_free_and_meant_may_be_overwritten() {
    let host = host();
    let found = disks(host.path());
    let follow = |path: &str| {
        path.strip_prefix("/dev/").map(|name| name.trim_start_matches("disk/by-path/usb-0:2-is-").to_string())
    };
    let permitted = |word: &str| {
        let named = named(word, &found, &follow)?;
        permit(&named, GIB).map(|()| named.disk.name.clone())
    };
    let refused = |word: &str| permitted(word).unwrap_err().to_string();
    assert_eq!(permitted("/dev/sdb").unwrap(), "sdb");
    assert_eq!(permitted("/dev/mmcblk0").unwrap(), "mmcblk0");
    assert_eq!(permitted("serial:SER4").unwrap(), "sdd", "big, but surely meant");
    assert_eq!(permitted("port:usb-0:4").unwrap(), "sdd");
    assert!(refused("/dev/sdd").contains("larger than 256 GiB") && refused("/dev/sdd").contains("port:usb-0:4"));
    assert!(refused("/dev/mmcblk1").contains("built in"));
    assert!(refused("/dev/nvme0n1").contains("runs from it") && refused("serial:NV1").contains("luks-home"));
    assert!(refused("port:usb-0:3").contains("mounted at /media/a b"));
    assert!(refused("/dev/sde").contains("no medium") && refused("/dev/sdf").contains("write-protected"));
    assert!(refused("/dev/sdc1").contains("whole disk: /dev/sdc"));
    assert!(refused("/dev/sdz").contains("no disk") && refused("serial:").contains("no disk"));
    let small = named("/dev/sdb", &found, &follow).unwrap();
    assert!(permit(&small, 64 * GIB).unwrap_err().to_string().contains("the image needs 64 GiB"));
    let offered: Vec<&str> = candidates(&found, GIB).iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(offered, ["mmcblk0", "sdb"]);
}

#[test]
fn one_that_comes_back_under_another_name_is_known() {
    let host = host();
    let found = disks(host.path());
    let before = found.iter().find(|disk| disk.name == "sdb").unwrap();
    assert_eq!(again(before, &found), None, "it never left");
    let now = [Disk { name: "sdg".into(), attachment: 99, ..before.clone() }];
    assert_eq!(again(before, &now).map(|disk| disk.name.as_str()), Some("sdg"));
    let other = [Disk { serial: "X".into(), port: "Y".into(), ..now[0].clone() }];
    assert_eq!(again(before, &other), None);
}
