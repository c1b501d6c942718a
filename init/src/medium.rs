//! Finding the medium that this machine was booted from, and its system partition.
//!
//! Only that medium counts: systemd-boot names the partition it was read from, a Pi's firmware the kind of medium; without
//! such a word exactly one disk may carry our partitions. Two candidates are refused by name, never guessed between.

use crate::console::Consoles;
use crate::error::InitError;
use crate::events::Journal;
use crate::medic::Medic;
use crate::modules::{Modules, cold_plug};
use crate::{rescue, shutdown};
use bakelite_disk::Guid;
use bakelite_disk::footer::Footer;
use bakelite_disk::table::{Entry, Table};
use bakelite_spec::event::What;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_spec::manifest::System;
use bakelite_sys::{SysError, block, device_tree, efivar, machine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When a missing medium is told of; it is sought on.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing new may appear before a medium that could have a twin is taken.
const QUIET_TWIN: Duration = Duration::from_secs(3);
/// The same for a medium that only nobody else looks like.
const QUIET_ALONE: Duration = Duration::from_millis(700);

/// The medium, as the program in the root needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `a` or `b`.
    pub slot: String,
    /// The disk's name.
    pub disk: String,
    /// The system partition's device file.
    pub device: PathBuf,
}

/// A disk with a partition table.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The disk.
    pub disk: block::Disk,
    /// Its table.
    pub table: Table,
}

impl Candidate {
    fn is_ours(&self, role: Role) -> bool {
        self.entry(role).is_some()
    }

    /// The partition with a role.
    pub fn entry(&self, role: Role) -> Option<(u32, &Entry)> {
        self.table.role(role)
    }
}

/// What has started this machine says of where it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The partition.
    Partition(Guid),
    /// How the medium is attached.
    Transport(&'static [&'static str]),
    Nothing,
}

impl Told {
    fn read() -> Self {
        let loader = efivar::loader("LoaderDevicePartUUID").and_then(|text| text.to_lowercase().parse().ok());
        match (loader, device_tree::boot_transports()) {
            (Some(guid), _) => Self::Partition(guid),
            (None, Some(transports)) => Self::Transport(transports),
            (None, None) => Self::Nothing,
        }
    }
}

/// What the candidates come to.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    None,
    /// The one, by its number, and how long nothing new may have appeared before it is taken.
    One(usize, Duration),
    Two(String, String),
}

/// Chooses the boot medium.
fn choose(candidates: &[Candidate], role: Role, told: Told) -> Choice {
    let fits = |candidate: &Candidate| match told {
        Told::Partition(guid) => candidate.table.entries.values().any(|entry| entry.guid == guid),
        Told::Transport(_) | Told::Nothing => candidate.is_ours(role),
    };
    let is_as_told = |number: &usize| match told {
        Told::Transport(kinds) => kinds.contains(&candidates[*number].disk.transport.as_str()),
        Told::Partition(_) | Told::Nothing => true,
    };
    let mut fitting: Vec<usize> = (0..candidates.len()).filter(|number| fits(&candidates[*number])).collect();
    // The word for the kind of medium only decides between several: one that is alone is booted whatever it is called.
    if fitting.len() > 1 && fitting.iter().any(is_as_told) {
        fitting.retain(is_as_told);
    }
    match fitting[..] {
        [] => Choice::None,
        [one] => {
            let quiet = match (candidates[one].table.is_unstamped(), told) {
                (true, _) => QUIET_TWIN,
                (false, Told::Partition(_)) => Duration::ZERO,
                (false, _) if is_as_told(&one) => QUIET_ALONE,
                (false, _) => QUIET_TWIN,
            };
            Choice::One(one, quiet)
        }
        [one, two, ..] => Choice::Two(candidates[one].disk.name.clone(), candidates[two].disk.name.clone()),
    }
}

/// All disks that have a partition table.
pub fn candidates() -> Vec<Candidate> {
    block::disks(Path::new("/"))
        .into_iter()
        .filter_map(|disk| {
            let (mut file, length) = block::open(&disk.device(), false).ok()?;
            let table = Table::read(&mut file, length / SECTOR).ok()?;
            Some(Candidate { disk, table })
        })
        .collect()
}

/// Seeks the system partition, loading modules for what appears; returns only when there is one that may be booted.
///
/// # Errors
/// The faults that waiting can't cure: two media, or a slot that isn't whole.
pub fn find(
    slot: &str,
    system: &System,
    modules: &mut Modules,
    medic: &mut Medic,
    journal: &mut Journal,
) -> Result<Found, InitError> {
    let role = Role::of_slot(slot).ok_or_else(|| {
        InitError::fault(
            Code::SlotUnreadable,
            format!("bakelite.slot={slot} on the kernel command line is neither a nor b"),
        )
    })?;
    let begun = machine::uptime();
    let mut seen = BTreeSet::new();
    let mut names: Vec<String> = Vec::new();
    let mut changed_at = begun;
    let mut told = false;
    loop {
        let loaded = cold_plug(modules, &mut seen);
        if efivar::is_uefi() {
            // The driver may be a module of the initramfs; mounted already is as good.
            let _ = crate::mounts::efi_variables();
        }
        // What a recovery stick has started is to find the machine's own medium.
        let told_medium = if medic.is_started_from_stick() { Told::Nothing } else { Told::read() };
        let now = machine::uptime();
        let candidates = candidates();
        let found: Vec<String> = if medic.is_started_from_stick() {
            // A disk without a table may be the one that is to get the system.
            block::disks(Path::new("/")).into_iter().map(|disk| disk.name).collect()
        } else {
            candidates.iter().map(|candidate| candidate.disk.name.clone()).collect()
        };
        if loaded > 0 || found != names {
            names = found;
            changed_at = now;
        }
        let choice = choose(&candidates, role, told_medium);
        let (is_settled, own) = match &choice {
            Choice::One(number, quiet) => (now - changed_at >= *quiet, Some(&candidates[*number].disk.name)),
            Choice::Two(..) => (true, None),
            Choice::None => (now - begun > PATIENCE, None),
        };
        // Before anything of the medium is mounted. Where there is none, the one that is meant may only be late.
        let is_quiet = medic.is_started_from_stick() && now - changed_at >= QUIET_TWIN;
        if (is_settled || is_quiet) && medic.has_turn(own.map(String::as_str), journal) {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        match choice {
            Choice::One(number, _) if is_settled => return check(&candidates[number], role, slot, system),
            Choice::Two(one, two) => {
                let text = format!("{one} and {two} both carry this machine's system and can't be told apart");
                return Err(InitError::fault(Code::TwoBootMedia, text));
            }
            _ => {}
        }
        if now - begun > PATIENCE && !told {
            told = true;
            let disks = if names.is_empty() { "no disk at all".into() } else { names.join(", ") };
            let fault = Fault::new(Code::NoBootMedium, format!("none of the disks here is the boot medium ({disks})"));
            let more = match medic.page() {
                [] => "It is still being looked for.".into(),
                lines => lines.join("\n  "),
            };
            journal.consoles.page(&rescue::page(&fault, &more));
            journal.say(What::Fault(fault));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Compares the slot's footer with what this initramfs was built for.
fn check(candidate: &Candidate, role: Role, slot: &str, system: &System) -> Result<Found, InitError> {
    let disk = &candidate.disk;
    let broken =
        |text: String| InitError::fault(Code::SlotUnreadable, format!("system {slot} on {}: {text}", disk.name));
    let (number, entry) = candidate.entry(role).ok_or_else(|| broken("there is no such partition".into()))?;
    let (mut file, _) = block::open(&disk.device(), false)?;
    let footer =
        Footer::read(&mut file, entry.start(), entry.length()).map_err(|error| broken(bakelite_sys::words(&error)))?;
    let hash = hexadecimal(footer.sha256);
    if footer.length != system.length || hash != system.sha256 {
        return Err(broken(format!(
            "its footer speaks of another system ({} bytes, {}…) than this kernel's ({} bytes, {}…)",
            footer.length,
            hash.get(..12).unwrap_or_default(),
            system.length,
            system.sha256.get(..12).unwrap_or_default()
        )));
    }
    let device = disk.partition_device(number);
    if !device.exists() {
        // The kernel reads only a whole primary table by itself.
        bakelite_sys::raw::tell_partition(&file, bakelite_sys::raw::Tell::Add, number, entry.start(), entry.length())
            .map_err(|source| SysError::Device {
            act: "telling the kernel of a partition",
            path: device.clone(),
            source,
        })?;
    }
    Ok(Found { slot: slot.into(), disk: disk.name.clone(), device })
}

/// Whether another disk than the one booted from could be taken for it at the next boot: its name.
pub fn twin(disk: &str) -> Option<String> {
    let all = candidates();
    let own = all.iter().find(|candidate| candidate.disk.name == disk)?;
    let esp = own.entry(Role::Boot)?.1.guid;
    all.iter()
        .filter(|other| other.disk.name != disk)
        .find(|other| other.table.disk == own.table.disk || other.table.entries.values().any(|entry| entry.guid == esp))
        .map(|other| other.disk.name.clone())
}

/// Says on all consoles what stops the boot, and stays; a recovery stick that comes now has its turn, too.
pub fn refuse(fault: Fault, modules: &mut Modules, medic: &mut Medic, journal: &mut Journal) -> ! {
    journal.say(What::Fault(fault.clone()));
    let mut seen = BTreeSet::new();
    rescue::stay_with(&fault, &mut Consoles::open(), || {
        cold_plug(modules, &mut seen);
        if medic.has_turn(None, journal) && medic.has_ended() {
            shutdown::at_once();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::layout::{Scheme, UNSTAMPED_DISK};

    fn candidate(name: &str, disk: Guid, esp: u8, ours: bool) -> Candidate {
        let mut table = Table::new(Scheme::Gpt, disk, 1 << 20);
        table.add(Role::Boot, 2048, 4095, &mut || Guid([esp; 16]));
        if ours {
            table.add(Role::SystemA, 4096, 8191, &mut || Guid([esp + 1; 16]));
        }
        Candidate { disk: block::Disk { name: name.into(), ..block::Disk::default() }, table }
    }

    #[test]
    fn only_the_medium_that_was_booted_from_counts() {
        let stamped = Guid([9; 16]);
        let unstamped: Guid = UNSTAMPED_DISK.parse().unwrap();
        let card = candidate("mmcblk0", stamped, 1, true);
        let other = candidate("sda", Guid([8; 16]), 3, true);
        let foreign = candidate("sdb", Guid([7; 16]), 5, false);
        let fresh = candidate("vda", unstamped, 1, true);
        let twin = candidate("vdb", unstamped, 1, true);
        let esp = Told::Partition(Guid([1; 16]));
        let a = Role::SystemA;
        assert_eq!(choose(&[], a, esp), Choice::None);
        assert_eq!(choose(&[other.clone(), card.clone()], a, esp), Choice::One(1, Duration::ZERO));
        assert_eq!(choose(&[other.clone(), foreign.clone()], a, esp), Choice::None);
        assert_eq!(choose(&[foreign, card.clone()], a, Told::Nothing), Choice::One(1, QUIET_ALONE));
        assert_eq!(choose(&[other, card.clone()], a, Told::Nothing), Choice::Two("sda".into(), "mmcblk0".into()));
        assert_eq!(choose(std::slice::from_ref(&fresh), a, esp), Choice::One(0, QUIET_TWIN));
        assert_eq!(choose(&[fresh, twin], a, esp), Choice::Two("vda".into(), "vdb".into()));
        assert_eq!(choose(&[card], Role::SystemB, Told::Nothing), Choice::None);
    }

    #[test]
    fn a_kind_of_medium_decides_between_several_and_never_against_the_only_one() {
        let on = |transport: &str, mut candidate: Candidate| {
            candidate.disk.transport = transport.into();
            candidate
        };
        let card = on("sd", candidate("mmcblk0", Guid([9; 16]), 1, true));
        let stick = on("usb", candidate("sda", Guid([8; 16]), 3, true));
        let other = on("uas", candidate("sdb", Guid([7; 16]), 5, true));
        let (a, usb, nvme) = (Role::SystemA, Told::Transport(&["usb", "uas"]), Told::Transport(&["nvme"]));
        assert_eq!(choose(&[card.clone(), stick.clone()], a, usb), Choice::One(1, QUIET_ALONE));
        assert_eq!(choose(&[card.clone(), stick.clone()], a, nvme), Choice::Two("mmcblk0".into(), "sda".into()));
        assert_eq!(choose(&[card.clone(), stick, other], a, usb), Choice::Two("sda".into(), "sdb".into()));
        assert_eq!(choose(&[card], a, usb), Choice::One(0, QUIET_TWIN), "it may only be the first to appear");
    }
}
