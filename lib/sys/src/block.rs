//! Disks as sysfs shows them: what they are called, how they are attached, what is on them, who holds them.
//!
//! The root folder is a parameter, so that tests use trees. Nothing is opened here but small files of sysfs, and a disk
//! where that is the point.

use crate::raw::{self, Tell};
use crate::{SysError, names_in, read_text};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Whether the file system at a path lies on an SD card, an eMMC or something behind USB: media whose writes are slow and
/// whose cells wear out. A path that isn't on a disk isn't slow.
pub fn is_slow(path: &Path) -> bool {
    let Ok(found) = rustix::fs::stat(path) else { return false };
    let device = format!("/sys/dev/block/{}:{}", rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    let Ok(device) = std::fs::canonicalize(device) else { return false };
    device.iter().any(|part| {
        let part = part.to_string_lossy();
        part.starts_with("mmc") || part.starts_with("usb")
    })
}

/// Bytes of the sectors that sysfs counts in, whatever the disk's own are.
const SECTOR: u64 = 512;

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sda`, `nvme0n1`, `mmcblk0`.
    pub name: String,
    /// The device's number, `major:minor`.
    pub number: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether it has spinning platters, as far as it says.
    pub rotational: bool,
    /// Whether it takes discards.
    pub discards: bool,
    /// Bytes of its own sectors.
    pub sector: u64,
    /// How it is attached: `usb` (mass storage), `uas`, `nvme`, `sd`, `emmc`, `sata`, `virtio`, `scsi`; empty where unknown.
    pub transport: String,
    /// Bytes that were written to it since the machine was switched on.
    pub written: u64,
    /// How much of its life is used, in percent, at most; `None` where it doesn't say or wasn't asked
    /// ([`health`](crate::health)). An eMMC has the worse of its two estimates, in steps of ten.
    pub used: Option<u8>,
    /// What it says of its own health, if that is bad: an eMMC's wear (JESD84, 0x0b: over its life) or pre-EOL word.
    pub ails: String,
    /// The maker's and model's name.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// The world-wide name.
    pub wwn: String,
    /// The devices built upon it (device mapper, RAID).
    pub holders: Vec<String>,
    /// Its partitions by number.
    pub partitions: BTreeMap<u32, Partition>,
}

/// One partition as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name, such as `sda1`, `nvme0n1p1`.
    pub name: String,
    /// The device's number, `major:minor`.
    pub number: String,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The devices built upon it.
    pub holders: Vec<String>,
}

impl Disk {
    /// The device file of the whole disk.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The device file of one of its partitions, by the kernel's rule for names.
    pub fn partition_device(&self, number: u32) -> PathBuf {
        let joint = if self.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        Path::new("/dev").join(format!("{}{joint}{number}", self.name))
    }

    /// The kernel's names of where file systems lie: the partitions, or the disk itself without any.
    pub fn places(&self) -> Vec<String> {
        let partitions: Vec<String> = self.partitions.values().map(|partition| partition.name.clone()).collect();
        if partitions.is_empty() { vec![self.name.clone()] } else { partitions }
    }

    /// Tells the kernel of partitions (number, first byte, length) that differ from those it knows.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn tell_kernel(
        &self,
        medium: &File,
        partitions: impl Iterator<Item = (u32, u64, u64)>,
    ) -> Result<(), SysError> {
        let known = disks(Path::new("/")).into_iter().find(|known| known.name == self.name).unwrap_or_default();
        for (number, start, length) in partitions {
            let tell = match known.partitions.get(&number) {
                None => Tell::Add,
                Some(known) if known.length != length => Tell::Resize,
                Some(_) => continue,
            };
            raw::tell_partition(medium, tell, number, start, length).map_err(|source| SysError::Device {
                act: "telling the kernel of a partition",
                path: self.partition_device(number),
                source,
            })?;
        }
        Ok(())
    }
}

/// Opens a disk, and reads its size in bytes from the device itself.
///
/// # Errors
/// When there is no such device, or nothing in it.
pub fn open(path: &Path, write: bool) -> Result<(File, u64), SysError> {
    let failed = |source| SysError::Device { act: "opening", path: path.into(), source };
    let mut file = File::options().read(true).write(write).open(path).map_err(failed)?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok((file, length))
}

/// All real disks with a medium, by name. `root` is `/` but in tests.
pub fn disks(root: &Path) -> Vec<Disk> {
    const NONE: [&str; 9] = ["loop", "ram", "zram", "dm-", "sr", "fd", "md", "nbd", "mtdblock"];
    let folder = root.join("sys/block");
    names_in(&folder)
        .into_iter()
        .filter(|name| !NONE.iter().any(|prefix| name.starts_with(prefix)))
        // The boot and replay-protected areas of an eMMC are disks of their own.
        .filter(|name| !(name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"))))
        .filter_map(|name| disk(&folder.join(&name), name))
        .filter(|disk| disk.size > 0)
        .collect()
}

fn disk(folder: &Path, name: String) -> Option<Disk> {
    let text = |path: &str| read_text(folder.join(path)).map(|text| text.trim().to_string()).unwrap_or_default();
    let number = |path: &str| text(path).parse::<u64>().ok();
    let place = folder.canonicalize().ok()?.to_string_lossy().into_owned();
    let partitions = names_in(folder)
        .into_iter()
        .filter_map(|child| {
            let of = |file: &str| text(&format!("{child}/{file}")).parse::<u64>().ok();
            let number = u32::try_from(of("partition")?).ok()?;
            let (start, length) = (of("start")?.checked_mul(SECTOR)?, of("size")?.checked_mul(SECTOR)?);
            let holders = names_in(folder.join(&child).join("holders"));
            let device = text(&format!("{child}/dev"));
            Some((number, Partition { name: child, number: device, start, length, holders }))
        })
        .collect();
    let model = [text("device/vendor"), text("device/model"), text("device/name")];
    Some(Disk {
        number: text("dev"),
        size: number("size")?.checked_mul(SECTOR)?,
        removable: number("removable") == Some(1),
        read_only: number("ro") == Some(1),
        rotational: number("queue/rotational") == Some(1),
        discards: number("queue/discard_max_bytes").is_some_and(|most| most > 0),
        sector: number("queue/logical_block_size").unwrap_or(SECTOR),
        transport: transport(&name, folder, &place).into(),
        // Sectors written are the seventh figure (kernel, Documentation/block/stat.rst).
        written: text("stat").split_whitespace().nth(6).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * SECTOR,
        used: used(&text("device/life_time")),
        ails: ails(&text("device/life_time"), &text("device/pre_eol_info")),
        model: model
            .iter()
            .filter(|word| !word.is_empty() && !word.starts_with("0x"))
            .cloned()
            .collect::<Vec<_>>()
            .join(" "),
        serial: [text("device/serial"), text("serial"), serial_page(folder), usb_serial(folder)]
            .into_iter()
            .find(|s| !s.is_empty())
            .unwrap_or_default(),
        wwn: [text("device/wwid"), text("wwid")].into_iter().find(|s| !s.is_empty()).unwrap_or_default(),
        holders: names_in(folder.join("holders")),
        partitions,
        name,
    })
}

/// A USB device as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbDevice {
    /// Maker and product, such as `152d:0578`.
    pub number: String,
    /// Whether it is driven with UAS.
    pub is_uas: bool,
}

/// The USB device at a place such as `2-1.4`; `None` where there is none. `root` is `/` but in tests.
pub fn usb_device(root: &Path, place: &str) -> Option<UsbDevice> {
    let folder = root.join("sys/bus/usb/devices");
    let text = |file: &str| Some(read_text(folder.join(place).join(file)).ok()?.trim().to_string());
    let number = format!("{}:{}", text("idVendor")?, text("idProduct")?);
    let interfaces =
        names_in(&folder).into_iter().filter(|name| name.strip_prefix(place).is_some_and(|rest| rest.starts_with(':')));
    let driver = |name: String| std::fs::read_link(folder.join(name).join("driver")).ok();
    let is_uas = interfaces.filter_map(driver).any(|driver| driver.ends_with("uas"));
    Some(UsbDevice { number, is_uas })
}

/// SCSI disks tell their serial number only in a binary page (SPC-4, 7.8.15).
fn serial_page(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("device/vpd_pg80")).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(4..).unwrap_or_default()).trim_matches(['\0', ' ']).to_string()
}

/// What is behind USB often has a serial number only as a USB device.
fn usb_serial(folder: &Path) -> String {
    let Ok(device) = folder.join("device").canonicalize() else { return String::new() };
    let usb = device.ancestors().find(|place| place.join("idVendor").is_file());
    usb.and_then(|usb| read_text(usb.join("serial")).ok()).map(|text| text.trim().to_string()).unwrap_or_default()
}

fn transport(name: &str, folder: &Path, place: &str) -> &'static str {
    let known = [("/usb", "usb"), ("/nvme", "nvme"), ("/mmc", "mmc"), ("/ata", "sata"), ("/virtio", "virtio")];
    match known.iter().find(|(part, _)| place.contains(part)) {
        Some((_, "usb")) if driver(folder) == "uas" => "uas",
        Some((_, "mmc")) => match read_text(folder.join("device/type")).as_deref() {
            Ok("MMC") => "emmc",
            _ => "sd",
        },
        Some((_, transport)) => transport,
        None if name.starts_with("sd") => "scsi",
        None => "",
    }
}

/// The driver of the SCSI host that a disk hangs on, which for USB tells mass storage from UAS.
fn driver(folder: &Path) -> String {
    let Ok(device) = folder.join("device").canonicalize() else { return String::new() };
    device
        .ancestors()
        .filter_map(|place| std::fs::read_link(place.join("driver")).ok())
        .filter_map(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()))
        .find(|driver| matches!(driver.as_str(), "uas" | "usb-storage"))
        .unwrap_or_default()
}

fn hexadecimal(text: &str) -> u8 {
    u8::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}

/// The worse of an eMMC's two estimates, in percent; 0 is what one says that has none.
fn used(life: &str) -> Option<u8> {
    let worst = life.split_whitespace().map(hexadecimal).max().filter(|worst| *worst > 0)?;
    Some(worst.min(0x0b).saturating_mul(10).min(100))
}

/// An eMMC's two estimates of its wear, in tenths of its life, and its own warning (2 and 3 are bad).
fn ails(life: &str, pre_eol: &str) -> String {
    if life.split_whitespace().any(|estimate| hexadecimal(estimate) >= 0x0b) {
        return "it is worn beyond its life".into();
    }
    if hexadecimal(pre_eol) >= 2 { "it says that it is near its end".into() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        crate::durable::make_folder(path.parent().unwrap()).unwrap();
        crate::durable::replace(path, text.as_bytes(), 0o644).unwrap();
    }

    #[test]
    fn a_tree_becomes_disks() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let usb = "sys/devices/pci0/usb1/1-1/host0/block/sda";
        for (file, text) in
            [("size", "2048\n"), ("removable", "1\n"), ("device/vendor", "Acme \n"), ("device/model", "Stick\n")]
        {
            put(root, &format!("{usb}/{file}"), text);
        }
        put(root, "sys/devices/pci0/usb1/1-1/idVendor", "0bda\n");
        put(root, &format!("{usb}/stat"), "  10  0  20  30  40  0  4096  50  0  60  70\n");
        put(root, "sys/devices/pci0/usb1/1-1/serial", "012345\n");
        put(root, &format!("{usb}/sda1/partition"), "1\n");
        put(root, &format!("{usb}/sda1/start"), "64\n");
        put(root, &format!("{usb}/sda1/size"), "128\n");
        put(root, "sys/block/loop0/size", "100\n");
        put(root, "sys/block/mmcblk0boot0/size", "100\n");
        put(root, "sys/block/nvme0n1/size", "0\n");
        std::os::unix::fs::symlink("../devices/pci0/usb1/1-1/host0/block/sda", root.join("sys/block/sda")).unwrap();
        let found = disks(root);
        assert_eq!(found.len(), 1, "{found:?}");
        let disk = &found[0];
        assert_eq!((disk.size, disk.removable, disk.transport.as_str()), (1 << 20, true, "usb"));
        assert_eq!((disk.model.as_str(), disk.serial.as_str()), ("Acme Stick", "012345"));
        assert_eq!((disk.partitions[&1].start, disk.partitions[&1].length), (32_768, 65_536));
        assert_eq!(disk.partition_device(2), Path::new("/dev/sda2"));
        assert_eq!(disk.places(), ["sda1"]);
        assert_eq!(Disk { partitions: BTreeMap::new(), ..disk.clone() }.places(), ["sda"]);
        assert_eq!((disk.written, disk.used), (4096 * 512, None));
        assert_eq!(
            [used("0x01 0x03"), used("0x00 0x00"), used("0x0b 0x01"), used("")],
            [Some(30), None, Some(100), None]
        );
        assert_eq!(ails("0x01 0x0a", "0x01"), "");
        assert!(!ails("0x01 0x0b", "0x01").is_empty() && !ails("0x01 0x01", "0x03").is_empty());
        put(root, "sys/bus/usb/devices/1-1/idVendor", "152d\n");
        put(root, "sys/bus/usb/devices/1-1/idProduct", "0578\n");
        put(root, "sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "08\n");
        let of = |place: &str| usb_device(root, place).map(|device| (device.number, device.is_uas));
        assert_eq!((of("1-1"), of("1-2")), (Some(("152d:0578".into(), false)), None));
        let driver = root.join("sys/bus/usb/devices/1-1:1.0/driver");
        std::os::unix::fs::symlink("../../../../bus/usb/drivers/uas", driver).unwrap();
        assert_eq!(of("1-1"), Some(("152d:0578".into(), true)));
        let card = Disk { name: "mmcblk0".into(), ..Disk::default() };
        assert_eq!(card.partition_device(5), Path::new("/dev/mmcblk0p5"));
    }
}
