//! Two slots and the loader that counts: how an update is armed, started, proved or left by what isn't firstboot.

use super::{Bench, Cut, Mutation};
use bakelite_plan::facts::Loader;
use bakelite_plan::update;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_spec::update::{LAST, PATH};
use std::collections::BTreeMap;

/// The entries on the boot partition.
const BOOT: &str = "/boot/";
/// What the new k3s writes is told from what the old one writes.
pub const BY_NEW: u64 = 1_000;

impl Bench {
    /// The loader's entries, by the files' names; it reads no others.
    fn entries(&self) -> BTreeMap<String, String> {
        let names = self.card.live.iter().filter_map(|(path, text)| Some((path.strip_prefix(BOOT)?, text)));
        names.filter(|(name, _)| name.ends_with(".conf")).map(|(name, text)| (name.into(), text.clone())).collect()
    }

    pub(super) fn loader(&self) -> Option<Loader> {
        let selected = format!("bakelite-{}.conf", self.slot.as_ref()?);
        Some(Loader { selected, entries: self.entries() })
    }

    /// What the update's command does last: the record, and only then the entry.
    pub fn arm(&mut self) -> Result<(), Cut> {
        let (record, entry) = self.armed.clone();
        let name = format!("{BOOT}{}", entry.0);
        if self.mutation == Some(Mutation::EntryFirst) {
            self.publish(&name, &entry.1)?;
            return self.publish(PATH, &record);
        }
        self.publish(PATH, &record)?;
        self.publish(&name, &entry.1)
    }

    /// The machine is switched on: systemd-boot takes the first entry that isn't given up, and counts.
    pub fn start_loader(&mut self) -> String {
        let entries = self.entries();
        let first = entries.iter().filter_map(|(file, text)| {
            let name = EntryName::parse(file)?;
            Some(((!name.is_exhausted(), LoaderEntry::parse(text).rank()), name, file.clone()))
        });
        let (_, name, file) = first.max_by_key(|(order, ..)| *order).unwrap();
        if let Some((left, done)) = name.tries.filter(|(left, _)| *left > 0) {
            let counted = EntryName { tries: Some((left - 1, done + 1)), ..name.clone() };
            let text = self.card.live.remove(&format!("{BOOT}{file}")).unwrap();
            self.card.live.insert(format!("{BOOT}{}", counted.text()), text);
            self.card.sync();
        }
        self.slot = Some(name.slot.clone());
        name.slot
    }

    /// init in a boot that is good: the counter goes, then the record.
    pub fn prove(&mut self) -> Result<(), Cut> {
        let counted: Vec<_> = self.entries().into_iter().filter(|(name, _)| name.contains('+')).collect();
        for (name, text) in counted {
            let plain = EntryName { tries: None, ..EntryName::parse(&name).unwrap() };
            self.publish(&format!("{BOOT}{}", plain.text()), &text)?;
            self.remove(&format!("{BOOT}{name}"))?;
        }
        let Some(record) = update::of(&self.facts()) else { return Ok(()) };
        self.publish(LAST, &serde_json::to_string(&record.ended(0, false)).unwrap())?;
        self.remove(PATH)
    }

    /// init in a trial that won't be good: the reason is noted, the slot's entries go.
    pub fn leave(&mut self) -> Result<(), Cut> {
        let record = update::of(&self.facts()).unwrap().failing("k3s ends again and again");
        self.publish(PATH, &serde_json::to_string(&record).unwrap())?;
        self.forget_entries(&record.to.slot)
    }

    fn forget_entries(&mut self, slot: &str) -> Result<(), Cut> {
        let own = |name: &String| EntryName::parse(name).is_some_and(|name| name.slot == slot);
        for name in self.entries().into_keys().filter(own).collect::<Vec<_>>() {
            self.remove(&format!("{BOOT}{name}"))?;
        }
        Ok(())
    }

    pub(super) fn add_entry(&mut self, name: &str, text: &str) -> Result<(), Cut> {
        self.publish(&format!("{BOOT}{name}"), text)
    }

    pub(super) fn remove_entries(&mut self, names: &[String]) -> Result<(), Cut> {
        for name in names {
            self.remove(&format!("{BOOT}{name}"))?;
        }
        Ok(())
    }
}
