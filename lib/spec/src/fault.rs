//! Faults: what a device can't get over by itself, with a stable code, who must act, and what to do.
//!
//! Each code has a page in docs/faults of the same name; `cargo xtask check` holds the two together.

use serde::{Deserialize, Serialize};

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// The person who owns the machine: a setting, a word.
    You,
    /// Somebody with a screwdriver, a cable or a new card.
    Hardware,
    /// Whoever has a backup.
    Backup,
    /// Nobody: it is expected to pass.
    Wait,
    /// The makers of Bakelite: a defect.
    Us,
}

impl Who {
    /// As the screen says it.
    pub fn words(self) -> &'static str {
        match self {
            Self::You => "you must act",
            Self::Hardware => "the hardware needs a hand",
            Self::Backup => "a backup is needed",
            Self::Wait => "no need to act, it is being tried again",
            Self::Us => "please report this",
        }
    }
}

/// One fault as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// Who must act.
    pub who: Who,
    /// What is wrong here, with names and numbers.
    pub text: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    /// A fault with its code's usual actor and hint, and the words of this case.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, who: code.who(), text: text.into(), hint: code.hint().into() }
    }
}

macro_rules! codes {
    ($($name:ident, $code:literal, $who:ident, $hint:literal;)*) => {
        /// The stable codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "the hint in the table below says what each means")]
        pub enum Code { $($name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written in files and on the screen.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Who usually must act.
            pub fn who(self) -> Who {
                match self { $(Self::$name => Who::$who,)* }
            }

            /// What to do.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

codes! {
    NoBootMedium, "no-boot-medium", Hardware, "Put the card or stick that was flashed back in; if it is in, flash a new one.";
    TwoBootMedia, "two-boot-media", You, "Take one of the two media out and switch the machine off and on.";
    SlotUnreadable, "slot-unreadable", Hardware, "Flash the card again, or replace it.";
    StateDamaged, "state-damaged", Hardware, "The file system on the card couldn't be repaired by itself; nothing on it was changed. Copy the card first, then run e2fsck by hand, or flash a new one.";
    StateFull, "state-full", You, "Make room on the state partition, or use a bigger card.";
    StateUnavailable, "state-unavailable", Hardware, "The card has no room for a state partition, or can't be written; use another card.";
    SettingsInvalid, "settings-invalid", Us, "The settings in the image can't be read; bake the image again.";
    SettingsRefused, "settings-refused", You, "Correct the file; until then the last accepted settings of that kind count.";
    EarlyFailed, "early-failed", Us, "The settings could not be prepared; the last accepted ones are in use.";
    IdentityConflict, "identity-conflict", You, "Use the card that belongs to this machine, or flash this one again.";
    SeedConflict, "seed-conflict", You, "Flash the card with this machine's own seed, or take seed.yaml off the boot partition.";
    SeedRefused, "seed-refused", You, "Correct seed.yaml on the boot partition, or flash the card again; nothing of it was taken.";
    DataDiskRefused, "data-disk-refused", You, "Allow it in the YAML with `storage.serial` or `storage.claim`, or take the disk out; until then k3s runs on the card.";
    DataDiskMissing, "data-disk-missing", Hardware, "Plug the data disk in again; k3s then starts by itself.";
    DataDiskReplaced, "data-disk-replaced", You, "Plug the old data disk in again; the new one isn't used while the cluster lives on the old one.";
    DataDiskForeign, "data-disk-foreign", You, "Plug the disk into the machine that it belongs to, or name it in the YAML with `storage.serial` to start it afresh.";
    DataDiskDamaged, "data-disk-damaged", Hardware, "Nothing on the data disk was changed. Copy it first, then run e2fsck by hand, or replace it.";
    DataDiskSmall, "data-disk-small", You, "Use a bigger data disk, or make room on the card; until then k3s runs on the card.";
    CardSmall, "card-small", You, "Make room on the card, or use a bigger one; until then k3s runs on the data disk.";
    DatabaseMissing, "database-missing", Backup, "k3s would start as a new, empty cluster. Bring the data disk or a backup of this machine.";
    DatabaseOlder, "database-older", Backup, "Bring the card, disk or backup with the newer database.";
    BackupNotRestorable, "backup-not-restorable", You, "Add `backup.recipients`, such as the one that `bakelite new` makes, and bake again.";
    BackupFailing, "backup-failing", You, "Log in and type `bakelite backup now`: it says why. The older backups are still there; the next attempt comes by itself.";
    BackupDrill, "backup-drill", You, "Log in and type `bakelite backup drill`, then `bakelite backup now`: a new backup may be whole where an old one isn't.";
    BackupTarget, "backup-target", You, "Plug the stick in again, or another one with the label in `backup.target`.";
    BackupRoom, "backup-room", You, "Use a bigger medium, make room on this one, or keep fewer backups with `backup.keep`.";
    CertificatesExpire, "certificates-expire", You, "Type `bakelite support` and look at k3s's log for why its certificates weren't renewed; an authority is renewed with `k3s certificate rotate-ca`.";
    DatabaseLarge, "database-large", You, "Look for what writes so much (`kubectl get events -A`, operators with leader election), or move the cluster to a faster disk.";
    DatabaseSlow, "database-slow", You, "Move the cluster to a faster disk, or run fewer operators; an SD card that is near its end is slow, too.";
    MediumWorn, "medium-worn", Hardware, "Replace the medium soon; `bakelite wear` has its figures, `bakelite backup now` makes a backup before that.";
    PowerLow, "power-low", Hardware, "Use the maker's power supply and a short cable, and give disks a supply of their own: writes are lost and disks vanish when the voltage is too low.";
    ProcessorHot, "processor-hot", Hardware, "Give the machine air or a heat sink; until then it is slower than it could be.";
    UsbResets, "usb-resets", Hardware, "Use another cable or port, a supply of its own for the disk, or another adapter.";
    RestoreRefused, "restore-refused", You, "Bring a set that fits, or take the stick out: without it this machine starts a cluster of its own.";
    RestoreAmbiguous, "restore-ambiguous", You, "Name the node in bakelite.yaml on the boot partition.";
    RestoreTakenBack, "restore-taken-back", Backup, "What was there before is in its place again. Bring another set; `bakelite restore SET` tries this one once more, and `bakelite retry` takes this message away.";
    RestoreIncomplete, "restore-incomplete", You, "Bring the data of the claims, restart k3s on the other nodes; `bakelite retry` takes this message away.";
    RestoreUnfinished, "restore-unfinished", Backup, "Plug the stick with the set in again.";
    ResetUnfinished, "reset-unfinished", You, "The machine is being made blank, and restarts by itself. Where it waits for a data disk, plug that in, or type `bakelite reset` again: what isn't here is then left out.";
    UpdateRefused, "update-refused", You, "Make a bundle that fits with `bakelite bundle`, or take the stick out.";
    UpdateTakenBack, "update-taken-back", You, "What ran before runs again. Look at why, mend the image, and bring a new bundle; `bakelite retry` takes this message away.";
    UpdateUnfinished, "update-unfinished", Backup, "The update went back, and the backup that was taken before it isn't on this machine any more. Plug in the disk or stick that has it.";
    K3sOlder, "k3s-older", You, "Use a card with the k3s version that this cluster has, or a newer one.";
    FirewallRefused, "firewall-refused", Us, "The machine can be reached by ssh; `firewall: open` turns the firewall off until it is mended.";
    K3sKeyChanged, "k3s-key-changed", You, "Set the key back in the YAML: it can't be changed once a cluster is born.";
    NoNetwork, "no-network", Wait, "No cable, or nothing answers at the other end; k3s runs on this machine alone.";
    UnitFailing, "unit-failing", Us, "The service ends again and again; its last words are in /var/lib/bakelite/last-words.";
    UserUnitFailing, "user-unit-failing", You, "A program of your own ends again and again; its last words are in /var/lib/bakelite/last-words.";
    SafeMode, "safe-mode", You, "Look at what failed and mend it, then type `bakelite retry` on the machine; switching it off and on tries it once more, too. Until then k3s isn't started.";
    RestartWithheld, "restart-withheld", You, "Mend what the machine wanted to restart for, then switch it off and on; until then k3s isn't started.";
    SecretMissing, "secret-missing", You, "Put the secret into /var/lib/bakelite/secrets under its name, mode 0600, or flash with a seed that brings it.";
    PayloadDamaged, "payload-damaged", Hardware, "A k3s file on the card isn't what was flashed; flash the card again.";
    KernelArguments, "kernel-arguments", You, "Correct `kernel.cmdline`, or take it out; the machine runs with the arguments of before.";
    K3sNoCgroup, "k3s-no-cgroup", Us, "The kernel lacks a cgroup controller that k3s needs.";
    K3sClock, "k3s-clock", You, "The clock is wrong; give the machine a network or set the clock.";
    K3sWrongToken, "k3s-wrong-token", Backup, "The token doesn't open this cluster's database; bring the token, or restore a backup.";
    K3sStaleCertificates, "k3s-stale-certificates", Wait, "Certificates on disk don't fit the database; k3s makes them anew from it.";
    K3sFutureCertificates, "k3s-future-certificates", Wait, "Certificates were made while the clock was ahead; k3s makes them anew from its database.";
    K3sMalformedToken, "k3s-malformed-token", You, "The token has the wrong form; give the whole token.";
    K3sDatabaseDamaged, "k3s-database-damaged", Backup, "k3s's database is damaged; a backup is needed.";
    K3sDiskFull, "k3s-disk-full", You, "The disk that holds k3s's state is full; make room.";
    K3sDiskUnwritable, "k3s-disk-unwritable", Hardware, "The disk that holds k3s's state can't be written; replace it.";
    K3sContainerd, "k3s-containerd", Wait, "The container runtime ended; k3s is started again.";
    K3sRefusedSetting, "k3s-refused-setting", You, "k3s refuses a setting; correct `k3s.config` and bake again.";
    K3sRefusesQuiet, "k3s-refuses-quiet", Wait, "This k3s refuses the quiet profile; it is started again without it.";
    K3sPortTaken, "k3s-port-taken", You, "Another program holds a port that k3s needs.";
    K3sNoAddress, "k3s-no-address", Wait, "k3s found no address to use; it is started again when there is one.";
    K3sHangs, "k3s-hangs", Us, "k3s neither becomes ready nor ends; it is started again.";
    K3sFailing, "k3s-failing", Us, "k3s ends again and again with words that aren't known here.";
}

impl Code {
    /// Whether starting k3s again, with nothing changed, can't help: the machine stays up and says so.
    pub fn is_final_for_k3s(self) -> bool {
        matches!(
            self,
            Self::K3sWrongToken
                | Self::K3sMalformedToken
                | Self::K3sDatabaseDamaged
                | Self::K3sRefusedSetting
                | Self::K3sNoCgroup
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_the_same_everywhere() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert!(code.hint().ends_with('.'));
        }
    }
}
