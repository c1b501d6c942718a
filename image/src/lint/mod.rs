//! Lint opens a finished image, trusts nobody, and proves named rules.
//!
//! Nothing that the workshop believes is taken over: each rule looks at the bytes. A rule ends proved, failed (with what
//! was found) or unknown: what it needs couldn't be read, and a broken check is no failed check. docs/lint.md lists the
//! rules from [`RULES`]. Must not change an image.

mod raspberry_pi;
mod recovery;
mod rules;
mod system;

use crate::error::BuildError;
use crate::opened::Opened;
use crate::parallel;
use serde::Serialize;
use std::convert::Infallible;
use std::path::Path;

/// How a rule ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "found")]
pub enum Outcome {
    /// It holds.
    Proved,
    /// It doesn't; what was found.
    Failed(Vec<String>),
    /// It couldn't be looked at; why.
    Unknown(String),
}

/// Whether an image may be used where a rule doesn't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It mustn't.
    Error,
    /// Somebody should know; it doesn't count as failed.
    Warning,
}

/// What a rule's function gives: nothing found, or what was; an error where it couldn't look.
type Found = Result<Vec<String>, String>;

/// One rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name, which never changes.
    pub id: &'static str,
    /// What it proves.
    pub proves: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    of: Of,
    look: fn(&Opened) -> Found,
}

/// What a rule is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Both,
    /// A boot medium.
    Medium,
    /// A recovery stick, which has one partition.
    Stick,
}

const fn rule(id: &'static str, proves: &'static str, look: fn(&Opened) -> Found) -> Rule {
    Rule { id, proves, severity: Severity::Error, of: Of::Both, look }
}

const fn medium(id: &'static str, proves: &'static str, look: fn(&Opened) -> Found) -> Rule {
    Rule { of: Of::Medium, ..rule(id, proves, look) }
}

const fn stick(id: &'static str, proves: &'static str, look: fn(&Opened) -> Found) -> Rule {
    Rule { of: Of::Stick, ..rule(id, proves, look) }
}

/// All rules.
pub const RULES: &[Rule] = &[
    rule("gpt-whole", "both copies of the partition table are whole, equal and in their places", rules::gpt_whole),
    medium(
        "partition-table",
        "the partition table is of the kind that the board's firmware reads",
        rules::partition_table,
    ),
    medium(
        "partition-types",
        "each partition of Bakelite's is there once, with its fixed type and label",
        rules::partition_types,
    ),
    rule("partition-places", "partitions are aligned, inside the medium, and don't overlap", rules::partition_places),
    medium("guids", "no two GUIDs are the same, and either all are the unstamped ones or none is", rules::guids),
    rule(
        "fat-clean",
        "the boot partition's FAT is clean: equal tables, no lost or shared cluster, not marked dirty",
        rules::fat_clean,
    ),
    rule(
        "fat-dates",
        "every date on the FAT is one of the calendar; else firmware refuses to count boots",
        rules::fat_dates,
    ),
    rule(
        "loader",
        "the boot partition has what firmware starts, and each loader entry's kernel and initramfs",
        rules::loader,
    ),
    rule(
        "boot-hashes",
        "kernel, initramfs and what firmware starts have the sizes and the hashes of the manifest",
        rules::boot_hashes,
    ),
    medium("boot-counter", "slot A's entry counts its tries on a medium that nobody has booted", rules::boot_counter),
    rule(
        "pi-firmware",
        "on each model of a Raspberry Pi, firmware loads kernel, device tree, initramfs and arguments of one slot, also when it tries",
        raspberry_pi::firmware,
    ),
    rule(
        "pi-commit",
        "what says which generation a Raspberry Pi starts is one sector long, and names files that are there",
        raspberry_pi::commit,
    ),
    rule("cmdline", "the kernel is told its slot and everything that the board asks for", rules::cmdline),
    rule(
        "cgroups",
        "memory cgroups, without which k3s dies, aren't switched off, and are on where the board asks",
        rules::cgroups,
    ),
    medium("slot-footer", "slot A ends with a whole footer", rules::slot_footer),
    medium("slot-hash", "slot A's bytes have the hash that its footer and the manifest say", system::slot_hash),
    medium(
        "slot-b-empty",
        "slot B has no footer on a medium that nobody has booted, so it is never started",
        rules::slot_b_empty,
    ),
    medium(
        "update-room",
        "slot B is as large as slot A, and the boot partition has room for all of a second slot: kernel, initramfs, device trees",
        rules::update_room,
    ),
    rule(
        "payload-hashes",
        "each file of the payload is there with the size and the hash of the manifest",
        system::payload_hashes,
    ),
    rule(
        "architecture",
        "PID 1, firstboot and the payload's program are for the board's processor",
        system::architecture,
    ),
    rule("setuid", "no file of the system has set-id bits", system::setuid),
    rule("secrets", "no private key, Kubernetes secret or literal password is in the image", system::secrets),
    rule(
        "initramfs-root",
        "the initramfs holds /init, and modules with which it can mount the system partition",
        rules::initramfs_root,
    ),
    rule("modules-indexed", "each module that the system's index names is there", system::modules_indexed),
    rule("settings", "the baked settings and units can be read, and are private", rules::settings),
    stick("stick-signed", "one of the `owner.keys` in the initramfs has signed the stick's manifest", recovery::signed),
    stick("stick-files", "each file that the stick's manifest names is there with its size and hash", recovery::files),
    Rule {
        id: "firmware",
        proves: "the firmware that the system's kernel modules ask for is there",
        severity: Severity::Warning,
        of: Of::Both,
        look: system::firmware,
    },
];

/// One rule's result.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The rule's name.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Looks at an image by all rules.
///
/// # Errors
/// When the image itself can't be opened.
pub fn lint(path: &Path) -> Result<Vec<Verdict>, BuildError> {
    let opened = Opened::new(path)?;
    Ok(prove(&opened, &of(&opened).collect::<Vec<_>>()))
}

/// The rules about such an image.
fn of(opened: &Opened) -> impl Iterator<Item = &'static Rule> + use<> {
    let other = if opened.is_stick() { Of::Medium } else { Of::Stick };
    RULES.iter().filter(move |rule| rule.of != other)
}

/// The rules without which no such image is published. What the others warn of, a build knows before it writes.
pub fn needed(opened: &Opened) -> Vec<&'static Rule> {
    of(opened).filter(|rule| rule.severity == Severity::Error).collect()
}

/// Looks at an open image by some rules, with all processors.
pub fn prove(opened: &Opened, rules: &[&'static Rule]) -> Vec<Verdict> {
    let judge = |_: &mut (), rule: &&'static Rule| {
        // A rule that trips over bytes that nobody thought of hasn't proved anything, and stops no other.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (rule.look)(opened)));
        let outcome = match looked {
            Ok(Ok(found)) if found.is_empty() => Outcome::Proved,
            Ok(Ok(found)) => Outcome::Failed(found),
            Ok(Err(why)) => Outcome::Unknown(why),
            Err(_) => Outcome::Unknown("the check itself broke; please report it".into()),
        };
        Ok(Verdict { rule: rule.id, severity: rule.severity, outcome })
    };
    let mut verdicts = Vec::new();
    let take = |verdict| {
        verdicts.push(verdict);
        Ok(())
    };
    let ended: Result<(), Infallible> = parallel::ordered(parallel::threads(), rules, || Ok(()), judge, take);
    let Ok(()) = ended;
    verdicts
}

#[cfg(test)]
mod tests;
