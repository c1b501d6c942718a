//! What an SSD says of its own wear: NVMe's page of its health, and a SATA disk's statistics.
//!
//! Asked seldom, and only of what has cells that wear out: a question may wake a disk that sleeps. Behind USB nobody is
//! asked, as some adapters hang on what they don't know. eMMC says the same in sysfs ([`block`](crate::block)).

use crate::block::{Disk, open};
use crate::raw::{self, PAGE};
use crate::words;

/// NVM Express Base Specification, SMART / Health Information.
const NVME_HEALTH: u8 = 0x02;
/// ACS-3, A.5: the log of device statistics, and its page of solid state devices.
const ATA_STATISTICS: u8 = 0x04;
const ATA_SOLID_STATE: u8 = 0x07;

/// What a disk says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Health {
    used: Option<u8>,
    ails: String,
}

/// Adds what the disks say of their wear, where they can be asked.
pub fn ask(disks: &mut [Disk]) {
    for disk in disks.iter_mut().filter(|disk| !disk.rotational) {
        let page: fn(&std::fs::File) -> std::io::Result<Health> = match disk.transport.as_str() {
            "nvme" => |file| raw::nvme_page(file, NVME_HEALTH).map(|page| nvme(&page)),
            "sata" => |file| raw::ata_page(file, ATA_STATISTICS, ATA_SOLID_STATE).map(|page| ata(&page)),
            _ => continue,
        };
        let Ok((file, _)) = open(&disk.device(), false).inspect_err(|error| log::debug!("{}", words(error))) else {
            continue;
        };
        match page(&file) {
            Ok(health) => (disk.used, disk.ails) = (health.used, health.ails),
            Err(error) => log::debug!("{} says nothing of its health: {error}", disk.name),
        }
    }
}

/// Bytes 0 (critical warnings) and 5 (percentage used) of the page.
fn nvme(page: &[u8; PAGE]) -> Health {
    // A temperature passes; of the rest each is for good.
    let warnings = [
        (0, "it has few spare cells left"),
        (2, "it says that it can't be relied on any more"),
        (3, "it can't be written any more"),
        (4, "what secures its memory against a power cut has failed"),
    ];
    let mut ails: Vec<&str> =
        warnings.iter().filter(|(bit, _)| page[0] >> bit & 1 == 1).map(|(_, words)| *words).collect();
    ails.extend(beyond(page[5]));
    Health { used: Some(page[5].min(100)), ails: ails.join(", ") }
}

/// The percentage used is at byte 8: eight bytes, the highest with flags (bit 7: there is one, bit 6: it counts).
fn ata(page: &[u8; PAGE]) -> Health {
    const FLAGS: u8 = 0xc0;
    if page[2] != ATA_SOLID_STATE || page[15] & FLAGS != FLAGS {
        return Health::default();
    }
    Health { used: Some(page[8].min(100)), ails: beyond(page[8]).unwrap_or_default().into() }
}

fn beyond(used: u8) -> Option<&'static str> {
    (used >= 100).then_some("it is worn beyond its life")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_nvme_disk_says_is_read() {
        let mut page = [0; PAGE];
        page[5] = 3;
        assert_eq!(nvme(&page), Health { used: Some(3), ails: String::new() });
        page[0] = 0b10;
        assert_eq!(nvme(&page).ails, "", "it is only hot");
        (page[0], page[5]) = (0b1101, 130);
        let health = nvme(&page);
        assert_eq!(health.used, Some(100));
        assert_eq!(
            health.ails,
            "it has few spare cells left, it says that it can't be relied on any more, it can't be written any more, \
             it is worn beyond its life"
        );
    }

    #[test]
    fn of_a_sata_disk_only_a_number_that_counts_is_taken() {
        let mut page = [0; PAGE];
        page[8] = 42;
        assert_eq!(ata(&page), Health::default(), "another page");
        page[2] = ATA_SOLID_STATE;
        page[15] = 0x80;
        assert_eq!(ata(&page), Health::default(), "it has none at present");
        page[15] = 0xc0;
        assert_eq!(ata(&page), Health { used: Some(42), ails: String::new() });
        page[8] = 101;
        assert_eq!(ata(&page), Health { used: Some(100), ails: "it is worn beyond its life".into() });
    }

    #[test]
    fn who_cannot_be_asked_stays_as_he_was() {
        let disk = |transport: &str| Disk { name: "none".into(), transport: transport.into(), ..Disk::default() };
        let mut disks = [disk("nvme"), disk("sata"), Disk { used: Some(30), ..disk("emmc") }];
        let before = disks.clone();
        ask(&mut disks);
        assert_eq!(disks, before);
    }
}
