//! Two slots, and a loader that counts or firmware that tries once: how an update is armed, started, proved or left by what
//! isn't firstboot.

use super::{Bench, Cut, Mutation};
use bakelite_plan::facts::Loader;
use bakelite_plan::update;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_spec::update::{ARMED, LAST, PATH, TRYBOOT};
use std::collections::BTreeMap;

/// The entries on the boot partition.
const BOOT: &str = "/boot/";
/// The slots that a Raspberry Pi's firmware starts: always, and when it is told to try.
const COMMIT: &str = "/boot/commit.txt";
const TRY_COMMIT: &str = "/boot/trycommit.txt";
/// What the update's own entry of a Pi is called, and the file that it is.
const TRIED: &str = "bakelite-b+1.conf";
const ARGUMENTS: &str = "/boot/b/cmdline-1.txt";
/// What the new k3s writes is told from what the old one writes.
pub const BY_NEW: u64 = 1_000;

impl Bench {
    /// The loader's entries, by the files' names; it reads no others.
    fn entries(&self) -> BTreeMap<String, String> {
        let names = self.card.live.iter().filter_map(|(path, text)| Some((path.strip_prefix(BOOT)?, text)));
        names.filter(|(name, _)| name.ends_with(".conf")).map(|(name, text)| (name.into(), text.clone())).collect()
    }

    /// The same machine as a Raspberry Pi: slot a is what its firmware starts.
    pub fn on_a_pi(mut self) -> Self {
        self.card.live.retain(|path, _| !path.starts_with(BOOT));
        for commit in [COMMIT, TRY_COMMIT] {
            self.card.live.insert(commit.into(), "a".into());
        }
        self.card.sync();
        Self { is_pi: true, ..self }
    }

    /// One sector in place: the old one or the new one.
    fn overwrite(&mut self, path: &str, text: &str) -> Result<(), Cut> {
        self.tick()?;
        self.card.live.insert(path.into(), text.into());
        self.card.pending.push((path.into(), Some(text.into())));
        self.tick()?;
        self.card.sync();
        Ok(())
    }

    fn loader_of_pi(&self) -> Option<Loader> {
        let (slot, started) = (self.slot.as_ref()?, self.card.live[COMMIT].clone());
        let mut entries = BTreeMap::from([(format!("bakelite-{started}.conf"), String::new())]);
        if self.card.live[TRY_COMMIT] != started {
            let arguments = self.card.live.get(ARGUMENTS);
            assert_eq!(arguments, Some(&self.armed.1.1), "what could be tried isn't whole");
            entries.insert(TRIED.into(), self.armed.1.1.clone());
        }
        let selected = if *slot == started { format!("bakelite-{slot}.conf") } else { TRIED.into() };
        Some(Loader { selected, entries })
    }

    pub(super) fn loader(&self) -> Option<Loader> {
        if self.is_pi {
            return self.loader_of_pi();
        }
        let selected = format!("bakelite-{}.conf", self.slot.as_ref()?);
        Some(Loader { selected, entries: self.entries() })
    }

    /// What the update's command does last: the record, and only then the entry.
    pub fn arm(&mut self) -> Result<(), Cut> {
        let (record, entry) = self.armed.clone();
        if self.is_pi {
            self.publish(PATH, &record)?;
            self.add_entry(&entry.0, &entry.1)?;
            self.asks_to_try = true;
            return Ok(());
        }
        let name = format!("{BOOT}{}", entry.0);
        if self.mutation == Some(Mutation::EntryFirst) {
            self.publish(&name, &entry.1)?;
            return self.publish(PATH, &record);
        }
        self.publish(PATH, &record)?;
        self.publish(&name, &entry.1)
    }

    /// The machine restarts because a pass wants it to.
    pub fn restart(&mut self) {
        self.asks_to_try = self.run.get(ARMED).is_some_and(|text| text == TRYBOOT);
    }

    /// The machine is switched on: systemd-boot takes the first entry that isn't given up, and counts. A Pi's firmware
    /// takes what it was told to try, once.
    pub fn start_loader(&mut self) -> String {
        if self.is_pi {
            let commit = if std::mem::take(&mut self.asks_to_try) { TRY_COMMIT } else { COMMIT };
            let slot = self.card.live[commit].clone();
            self.slot = Some(slot.clone());
            return slot;
        }
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

    /// init in a boot that is good: the counter goes, or the slot is committed; then the record.
    pub fn prove(&mut self) -> Result<(), Cut> {
        if self.is_pi && self.card.live[COMMIT] != self.card.live[TRY_COMMIT] {
            let tried = self.card.live[TRY_COMMIT].clone();
            self.overwrite(COMMIT, &tried)?;
        }
        let counted: Vec<_> = self.entries().into_iter().filter(|(name, _)| name.contains('+')).collect();
        for (name, text) in counted {
            let plain = EntryName { tries: None, ..EntryName::parse(&name).unwrap() };
            self.publish(&format!("{BOOT}{}", plain.text()), &text)?;
            self.remove(&format!("{BOOT}{name}"))?;
        }
        let Some(record) = update::of(&self.facts()) else { return Ok(()) };
        self.publish(LAST, &serde_json::to_string(&record.ended(0, false, &[])).unwrap())?;
        self.remove(PATH)
    }

    /// init in a trial that won't be good: the reason is noted, the slot's entries go.
    pub fn leave(&mut self) -> Result<(), Cut> {
        let record = update::of(&self.facts()).unwrap().failing("k3s ends again and again");
        self.publish(PATH, &serde_json::to_string(&record).unwrap())?;
        self.forget_entries(&record.to.slot)
    }

    fn forget_entries(&mut self, slot: &str) -> Result<(), Cut> {
        if self.is_pi {
            return self.forget_tried();
        }
        let own = |name: &String| EntryName::parse(name).is_some_and(|name| name.slot == slot);
        for name in self.entries().into_keys().filter(own).collect::<Vec<_>>() {
            self.remove(&format!("{BOOT}{name}"))?;
        }
        Ok(())
    }

    fn forget_tried(&mut self) -> Result<(), Cut> {
        let started = self.card.live[COMMIT].clone();
        self.overwrite(TRY_COMMIT, &started)
    }

    pub(super) fn add_entry(&mut self, name: &str, text: &str) -> Result<(), Cut> {
        if self.is_pi {
            self.publish(ARGUMENTS, text)?;
            return self.overwrite(TRY_COMMIT, "b");
        }
        self.publish(&format!("{BOOT}{name}"), text)
    }

    pub(super) fn remove_entries(&mut self, names: &[String]) -> Result<(), Cut> {
        if self.is_pi {
            self.forget_tried()?;
            return self.remove(ARGUMENTS);
        }
        for name in names {
            self.remove(&format!("{BOOT}{name}"))?;
        }
        Ok(())
    }
}
