//! Trials: a boot of a slot that an update has just brought. It proves itself by a good boot; anything else leads back.
//!
//! A refusal, or no good boot in time, is no place to stay in a trial: the reason is noted, the boot loader forgets the slot, and
//! the machine restarts into what ran before. What follows there is firstboot's. Must never take the last entry away.

use crate::boot_good::boot_partition;
use bakelite_spec::board::Flow;
use bakelite_spec::loader_entry::{EntryName, FOLDER};
use bakelite_spec::update::{LAST, PATH, Update};
use bakelite_sys::commits::{self, Commits};
use bakelite_sys::{SysError, durable, efivar, fat, machine, names_in, read_text};
use std::path::Path;

/// The update that is on, whichever side of it runs.
pub fn update() -> Option<Update> {
    Update::read(&read_text(PATH).ok()?)
}

/// The update that a boot of this slot and image tries.
pub fn of(slot: &str, image: &str) -> Option<Update> {
    update().filter(|update| update.is_trial_of(slot, image))
}

/// Ends the update well, once the boot loader counts the slot no more: the note first, the record last.
///
/// # Errors
/// When it can't be written; the next boot is a trial again then.
pub fn prove(update: &Update) -> Result<Option<String>, SysError> {
    let ended = update.ended(machine::clock(), false, &[]);
    durable::write_durable(LAST, &serde_json::to_vec(&ended).unwrap_or_default(), 0o600)?;
    durable::remove_file(PATH)?;
    durable::sync_folder(Path::new(PATH).parent().unwrap_or(Path::new("/")))?;
    Ok(Some(format!("the update has proved itself: {}", ended.words())))
}

/// Notes why it goes back, and has the boot loader forget the slot. What isn't done of it early does at the next start.
///
/// # Errors
/// When something can't be written.
pub fn leave(update: Update, why: &str, disk: &str) -> Result<(), SysError> {
    let slot = update.to.slot.clone();
    let failed = update.failing(why);
    durable::write_durable(PATH, &serde_json::to_vec(&failed).unwrap_or_default(), 0o600)?;
    forget(disk, &slot).map(drop)
}

/// Takes a slot's entries away where another slot has one, or a Raspberry Pi's slot that is only tried; whether that was so.
fn forget(disk: &str, slot: &str) -> Result<bool, SysError> {
    let Some(device) = boot_partition(disk) else { return Ok(false) };
    fat::change(&device, |boot| {
        if Commits::read(boot.root).is_some() {
            return commits::forget(boot.root, slot);
        }
        let folder = boot.root.join(FOLDER);
        let Some(names) = goes(&names_in(&folder), slot) else { return Ok(false) };
        names.into_iter().try_for_each(|name| durable::remove_file(folder.join(name)))?;
        Ok(true)
    })
}

/// The slot's entries; `None` where no other slot could be started instead.
fn goes(names: &[String], slot: &str) -> Option<Vec<String>> {
    let of_slot = |name: &&String| EntryName::parse(name).map(|name| name.slot == slot);
    let is_way_back =
        names.iter().any(|name| EntryName::parse(name).is_some_and(|name| name.slot != slot && !name.is_exhausted()));
    is_way_back.then(|| names.iter().filter(|name| of_slot(name) == Some(true)).cloned().collect())
}

/// Leaves a slot that hasn't proved itself and can't even say so, as there is no state; whether the machine has to restart.
pub fn leave_blindly(disk: &str, slot: &str, flow: Flow) -> bool {
    let is_unproved = flow == Flow::RaspberryPi || tries_left().is_some();
    is_unproved && forget(disk, slot).unwrap_or(false)
}

/// How often the boot loader would start what runs once more before it gives it up; `None` where it doesn't count.
pub fn tries_left() -> Option<u32> {
    let counted = efivar::loader("LoaderBootCountPath")?;
    let name = counted.rsplit(['\\', '/']).next()?.to_string();
    EntryName::parse(&name)?.tries.map(|(left, _)| left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_never_taken_away() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all = names(&["bakelite-a.conf", "bakelite-b-2+3.conf", "bakelite-b+2-1.conf", "debian.conf"]);
        assert_eq!(goes(&all, "b"), Some(names(&["bakelite-b-2+3.conf", "bakelite-b+2-1.conf"])));
        assert_eq!(goes(&names(&["bakelite-b+2-1.conf", "debian.conf"]), "b"), None);
        assert_eq!(goes(&names(&["bakelite-b+2-1.conf", "bakelite-a+0-3.conf"]), "b"), None, "given up itself");
    }
}
