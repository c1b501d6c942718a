//! What the records of a machine allow at a moment: of an update which entries may be there, and which database.

use super::boot::Startable;
use anyhow::{Result, bail, ensure};
use bakelite_spec::records::{Act, ClusterBorn, Intent};
use bakelite_spec::update::{Ended, Update};

/// The update of a recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The id of the image that it brings.
    pub image: String,
    /// Whether it proved itself in the end, and didn't go back.
    pub proved: bool,
}

/// What the state partition says, and the data disk.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The update that is on.
    pub update: Option<Update>,
    /// What became of the last one.
    pub last: Option<Ended>,
    /// The act that isn't finished.
    pub intent: Option<Intent>,
    /// The cluster.
    pub born: Option<ClusterBorn>,
}

/// Which database there has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// It has at least this revision.
    pub revision: u64,
    /// It may still be the unpacked one, which isn't in its place yet.
    pub or_staged: bool,
    /// The epoch of an act that took the place of what an update had written, which is kept aside.
    pub aside: Option<u64>,
}

impl Records {
    /// Whether the update of this image has proved itself, as it is noted.
    fn says_proved(&self, image: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.why.is_empty() && last.to.image == image)
    }

    /// The new system may be started while its record makes that a trial, and once it has proved itself. Its counter goes
    /// when it has, and the record after that.
    pub fn allow(&self, entries: &[Startable], recorded: &Recorded) -> Result<()> {
        for entry in entries.iter().filter(|entry| entry.image == recorded.image) {
            let of_it = |update: &&Update| update.is_trial_of(&entry.name.slot, &entry.image);
            let trial = self.update.as_ref().filter(of_it);
            let name = entry.name.text();
            if entry.name.tries.is_some() {
                let known = trial.is_some() || (recorded.proved && self.says_proved(&entry.image));
                ensure!(known, "the entry {name} can be started, and no record makes that a trial");
                continue;
            }
            ensure!(recorded.proved, "the entry {name} has no counter, and the update never proves itself");
            let proves = trial.is_some_and(|update| update.started && update.failed.is_empty());
            ensure!(
                proves || self.says_proved(&entry.image),
                "the entry {name} has no counter before it proved itself"
            );
        }
        Ok(())
    }

    /// Which database there has to be, where at the start there was one of this epoch and revision. Without an update an act that
    /// begins an epoch is a move, which loses nothing.
    pub fn database(&self, start: Option<(u64, u64)>, recorded: Option<&Recorded>) -> Result<Wanted> {
        let born = self.born.as_ref();
        let restored = self.intent.as_ref().filter(|intent| intent.act == Act::Restore);
        let (epoch, revision) = born.map_or((0, 0), |born| (born.epoch, born.revision));
        let least = |known: u64| restored.map_or(revision.max(known), |intent| intent.revision);
        let Some((before, known)) = start else {
            return Ok(Wanted { revision: least(0), or_staged: restored.is_some(), aside: None });
        };
        ensure!(born.is_some(), "the record of the cluster is gone");
        if epoch == before || recorded.is_none() {
            return Ok(Wanted { revision: least(known), or_staged: restored.is_some(), aside: None });
        }
        ensure!(epoch == before + 1, "the cluster is of epoch {epoch}, and was of {before}");
        let goes_back = self.update.as_ref().is_some_and(|update| update.started && !update.failed.is_empty());
        let went_back = self.last.as_ref().is_some_and(|last| last.set_put_back && !last.why.is_empty());
        if !goes_back && !went_back {
            bail!("the epoch is {epoch}, and nothing says that an update went back");
        }
        Ok(Wanted { revision, or_staged: false, aside: Some(epoch) })
    }

    /// That the update came to its end.
    pub fn is_over(&self) -> Result<()> {
        ensure!(self.update.is_none(), "the update is still on: {:?}", self.update);
        ensure!(self.intent.is_none(), "an act is still open: {:?}", self.intent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::loader_entry::EntryName;
    use bakelite_spec::records::{Datastore, FORMAT};
    use bakelite_spec::update::Side;

    const NEW: &str = "new";

    fn side(slot: &str, image: &str) -> Side {
        Side { slot: slot.into(), image: image.into(), ..Side::default() }
    }

    fn on(started: bool, failed: &str) -> Update {
        Update { from: side("a", "old"), to: side("b", NEW), started, failed: failed.into(), ..Update::default() }
    }

    fn entries(names: &[&str]) -> Vec<Startable> {
        let image = |name: &EntryName| if name.slot == "b" { NEW } else { "old" }.to_string();
        let names = names.iter().map(|name| EntryName::parse(name).unwrap());
        names.map(|name| Startable { image: image(&name), name }).collect()
    }

    fn born(epoch: u64, revision: u64) -> Option<ClusterBorn> {
        let (node, row, k3s) = ("n".into(), String::new(), String::new());
        let (datastore, keys) = (Datastore::Sqlite, Default::default());
        Some(ClusterBorn { format: FORMAT, epoch, node, datastore, row, revision, k3s, keys })
    }

    fn restore(revision: u64) -> Option<Intent> {
        let (disk, set) = (String::new(), "n/1".into());
        Some(Intent { format: FORMAT, act: Act::Restore, from_epoch: 0, disk, revision, set, before: None })
    }

    #[test]
    fn an_entry_of_the_new_slot_needs_its_record_and_loses_its_counter_last() {
        let (trial, proved) = (["bakelite-a.conf", "bakelite-b+3.conf"], ["bakelite-a.conf", "bakelite-b.conf"]);
        let ended = |why: &str| Some(on(true, why).ended(1, !why.is_empty(), &[]));
        let none = || Records::default();
        let with = |update: Update| Records { update: Some(update), ..none() };
        let other = Update { to: side("b", "another"), ..on(true, "") };
        for (records, names, forward, back) in [
            (none(), &trial[..1], true, true),
            (none(), &trial, false, false),
            (with(on(false, "")), &trial, true, true),
            (with(on(true, "it hangs")), &trial, true, true),
            (with(other), &trial, false, false),
            (none(), &proved, false, false),
            (with(on(false, "")), &proved, false, false),
            (with(on(true, "")), &proved, true, false),
            (with(on(true, "it hangs")), &proved, false, false),
            (Records { last: ended(""), ..none() }, &proved, true, false),
            (Records { last: ended("it hangs"), ..none() }, &proved, false, false),
        ] {
            for (proved, good) in [(true, forward), (false, back)] {
                let recorded = Recorded { image: NEW.into(), proved };
                let allowed = records.allow(&entries(names), &recorded);
                assert_eq!(allowed.is_ok(), good, "{records:?} {names:?} {proved}: {allowed:?}");
            }
        }
    }

    #[test]
    fn the_database_never_goes_back_but_by_the_way_back() {
        let wanted = |revision, or_staged, aside| Some(Wanted { revision, or_staged, aside });
        let update = |started, failed: &str| Some(on(started, failed));
        let last = Some(on(true, "it hangs").ended(1, true, &[]));
        let records = |born, intent, update, last| Records { born, intent, update, last };
        for (records, start, expected) in [
            (records(None, None, None, None), None, wanted(0, false, None)),
            (records(None, restore(9), None, None), None, wanted(9, true, None)),
            (records(born(0, 5), None, None, None), Some((0, 7)), wanted(7, false, None)),
            (records(born(0, 8), None, update(true, ""), None), Some((0, 7)), wanted(8, false, None)),
            (records(born(0, 12), restore(9), update(true, "it hangs"), None), Some((0, 7)), wanted(9, true, None)),
            (records(born(1, 9), restore(9), update(true, "it hangs"), None), Some((0, 7)), wanted(9, false, Some(1))),
            (records(born(1, 9), None, None, last), Some((0, 12)), wanted(9, false, Some(1))),
            (records(born(1, 9), None, update(true, ""), None), Some((0, 7)), None),
            (records(born(1, 9), None, update(false, "it hangs"), None), Some((0, 7)), None),
            (records(born(2, 9), None, update(true, "it hangs"), None), Some((0, 7)), None),
            (records(born(0, 9), None, None, None), Some((1, 7)), None),
            (records(None, None, None, None), Some((0, 7)), None),
        ] {
            let recorded = Recorded { image: NEW.into(), proved: false };
            assert_eq!(records.database(start, Some(&recorded)).ok(), expected, "{records:?}");
        }
        let moved = records(born(1, 9), None, None, None);
        assert_eq!(moved.database(Some((0, 12)), None).ok(), wanted(12, false, None));
    }
}
