//! A machine without a system: whether the stick's is put onto one of its disks, and onto which.
//!
//! The disk is chosen by the words that firstboot chooses a data disk by, with the same permit (law 5). What a stick has begun
//! it goes on with, wherever it was cut; a data disk of such a machine is never taken. A recovery stick only does it where
//! something is to come back, as a machine that lacks its disk for a moment must not become another one.

use super::{Action, Finding, Remedy, finding};
use crate::claim::{self, Choice};
use crate::disk::{Disk, Proof};
use bakelite_spec::appliance::Storage;
use bakelite_spec::quantity::Size;
use serde::{Deserialize, Serialize};

const PART: &str = "machine";

/// What there is on a machine without a boot medium that was started from the stick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bare {
    /// Its disks, the stick's own among them.
    pub disks: Vec<Disk>,
    /// The words by which one is chosen.
    pub storage: Storage,
    /// Bytes that a system takes, with room for its state.
    pub needs: u64,
    /// Whether the stick puts a system onto machines that never had one.
    pub installs: bool,
    /// Why this machine gets nothing from this stick, whatever its disks are; empty if it does.
    pub unfit: String,
    /// The row of the stick's table that the machine gets; empty where the stick has none.
    pub row: String,
}

impl Bare {
    /// The disks that have to be looked at before anything is decided.
    pub fn unproved(&self) -> Vec<String> {
        let all: Vec<&Disk> = self.disks.iter().filter(|disk| self.objection(disk).is_none()).collect();
        match claim::choose(&all, &self.storage) {
            Choice::Look(disks) => disks.into_iter().map(Disk::key).collect(),
            Choice::Take(..) | Choice::None(_) => Vec::new(),
        }
    }

    /// Why a disk can't hold the system, whatever the words say.
    fn objection(&self, disk: &Disk) -> Option<String> {
        if disk.data.as_ref().is_some_and(|data| data.born) {
            return Some("it is a data disk of such a machine".into());
        }
        let (size, needs) = (Size(disk.size), Size(self.needs));
        (size < needs).then(|| format!("it has {}, and the system needs {}", size.human(), needs.human()))
    }
}

/// Decides. `sets`: how many backups are on the stick.
pub(super) fn decide(bare: &Bare, sets: usize) -> Finding {
    let person = |text: String| finding(PART, Remedy::Person, text);
    let put = |disk: &Disk, permit: &str| {
        let row = if bare.row.is_empty() { String::new() } else { format!(" with row {} of its table", bare.row) };
        let text = format!("has no system; {} gets the stick's{row}: {permit}", disk.words());
        finding(PART, Remedy::Now(Action::Install(disk.key())), text)
    };
    if !bare.unfit.is_empty() {
        return person(format!("has no system, and nothing was written: {}", bare.unfit));
    }
    let begun: Vec<&Disk> = bare.disks.iter().filter(|disk| disk.proof == Some(Proof::Begun)).collect();
    match begun[..] {
        [] => {}
        [one] => return put(one, "it was begun before, and cut off"),
        [one, two, ..] => {
            let text = format!(
                "has half a system on {} and on {}, and nothing was written: leave one of them in the machine",
                one.words(),
                two.words()
            );
            return person(text);
        }
    }
    let is_data = |disk: &Disk| disk.data.as_ref().is_some_and(|data| data.born);
    if !bare.installs && sets == 0 && !bare.disks.iter().any(is_data) {
        let text = "has no system, and nothing was written: there is neither a backup on this stick nor a data disk here \
                    to come back from. Put backups onto the stick, or use an installer stick";
        return person(text.into());
    }
    let (fit, unfit): (Vec<&Disk>, Vec<&Disk>) = bare.disks.iter().partition(|disk| bare.objection(disk).is_none());
    match claim::choose(&fit, &bare.storage) {
        Choice::Take(disk, permit) => put(disk, &permit),
        Choice::Look(disks) => {
            let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
            person(format!("has no system, and {} can't be looked at; nothing was written", names.join(", ")))
        }
        Choice::None(others) => {
            // The stick itself is in use.
            let unused = unfit.into_iter().filter(|disk| disk.used_by.is_empty());
            let unfit = unused.filter_map(|disk| Some((disk, bare.objection(disk)?)));
            let refused: Vec<_> = unfit.chain(others).collect();
            let why = claim::refusal(&bare.storage, &refused).unwrap_or_else(|| "there is no disk for it.".into());
            person(format!("has no system, and nothing was written: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Data;
    use bakelite_spec::appliance::Claim;

    fn disk(name: &str, proof: Proof) -> Disk {
        let transport = if name.starts_with("nvme") { "nvme" } else { "sata" };
        Disk {
            name: name.into(),
            transport: transport.into(),
            serial: format!("s-{name}"),
            size: 20 << 30,
            proof: Some(proof),
            ..Disk::default()
        }
    }

    fn bare(disks: Vec<Disk>) -> Bare {
        let prefer = ["nvme", "sata", "virtio", "usb"].map(String::from).to_vec();
        let storage = Storage {
            claim: Claim::Blank,
            prefer,
            min_size: Size(8 << 30),
            serial: None,
            without_disk: None,
            settle: bakelite_spec::quantity::Seconds(3),
        };
        Bare { disks, storage, needs: 3 << 30, installs: true, unfit: String::new(), row: String::new() }
    }

    fn chosen(bare: &Bare, sets: usize) -> Result<String, String> {
        let finding = decide(bare, sets);
        match finding.remedy {
            Remedy::Now(Action::Install(key)) => Ok(key),
            _ => Err(finding.text),
        }
    }

    #[test]
    fn the_disk_is_chosen_by_firstboots_words_and_a_foreign_one_is_named_with_what_would_take_it() {
        let stick = Disk {
            removable: true,
            transport: "usb".into(),
            used_by: vec!["/run/bakelite/recovery".into()],
            ..disk("sdc", Proof::Stick)
        };
        let holds = |name| disk(name, Proof::Holds("ext4".into()));
        let both = bare(vec![stick.clone(), disk("sda", Proof::Blank), disk("nvme0n1", Proof::Blank)]);
        assert_eq!(chosen(&both, 0), Ok("s-nvme0n1".into()));
        let one = bare(vec![stick.clone(), disk("sda", Proof::Blank), holds("nvme0n1")]);
        assert_eq!(chosen(&one, 0), Ok("s-sda".into()));
        let foreign = bare(vec![stick.clone(), holds("nvme0n1")]);
        let why = chosen(&foreign, 0).unwrap_err();
        assert!(why.contains("it holds ext4") && why.contains(r#"`storage: {serial: "s-nvme0n1"}`"#), "{why}");
        let mut named = foreign.clone();
        named.storage.serial = Some("S-NVME0N1".into());
        assert_eq!(chosen(&named, 0), Ok("s-nvme0n1".into()));
        named.storage.serial = Some("another".into());
        assert!(chosen(&named, 0).unwrap_err().contains("names another one"));
        assert!(chosen(&bare(vec![stick]), 0).unwrap_err().contains("no disk for it"));
    }

    #[test]
    fn what_was_begun_is_gone_on_with_and_what_holds_a_machines_data_is_never_taken() {
        let begun = bare(vec![disk("sda", Proof::Begun), disk("nvme0n1", Proof::Blank)]);
        assert_eq!(chosen(&begun, 0), Ok("s-sda".into()));
        let two = bare(vec![disk("sda", Proof::Begun), disk("sdb", Proof::Begun)]);
        assert!(chosen(&two, 0).unwrap_err().contains("half a system on sda"));
        let data = Disk { data: Some(Data { born: true, ..Data::default() }), ..disk("sda", Proof::Blank) };
        let mut only_data = bare(vec![data.clone()]);
        for claim in [Claim::Blank, Claim::Any] {
            only_data.storage.claim = claim;
            assert!(chosen(&only_data, 1).unwrap_err().contains("it is a data disk of such a machine"));
        }
        only_data.storage.serial = Some("s-sda".into());
        assert!(chosen(&only_data, 1).is_err());
        let small = bare(vec![Disk { size: 2 << 30, ..disk("sda", Proof::Blank) }]);
        assert!(chosen(&small, 1).unwrap_err().contains("the system needs 3 GiB"));
        let stick = Disk { size: 1 << 30, used_by: vec!["sdb1".into()], ..disk("sdb", Proof::Stick) };
        let beside = Bare { disks: vec![small.disks[0].clone(), stick], ..small };
        let said = chosen(&beside, 1).unwrap_err();
        assert!(said.contains("s-sda") && !said.contains("s-sdb"), "{said}");
    }

    #[test]
    fn a_recovery_stick_only_brings_back_what_there_was() {
        let mut machine = Bare { installs: false, ..bare(vec![disk("sda", Proof::Blank)]) };
        assert!(chosen(&machine, 0).unwrap_err().contains("neither a backup"));
        assert_eq!(chosen(&machine, 1), Ok("s-sda".into()));
        let data = Disk { data: Some(Data { born: true, ..Data::default() }), ..disk("sdb", Proof::Blank) };
        machine.disks.push(data);
        assert_eq!(chosen(&machine, 0), Ok("s-sda".into()));
        machine.unfit = "a Raspberry Pi isn't started from it".into();
        assert!(chosen(&machine, 1).is_err());
    }

    #[test]
    fn only_disks_that_may_be_taken_are_looked_at() {
        let unseen = |name| Disk { proof: None, ..disk(name, Proof::Blank) };
        let mut machine = bare(vec![unseen("sda"), Disk { removable: true, ..unseen("sdb") }, unseen("sdc")]);
        machine.disks[2].size = 1 << 30;
        assert_eq!(machine.unproved(), ["s-sda"]);
        machine.disks[0].proof = Some(Proof::Blank);
        assert!(machine.unproved().is_empty());
    }
}
