//! The media of a scenario: the boot medium and the disks, as plain files that outlive each boot of the machine.
//!
//! Here is all that is done and checked while the machine is off, but for damage.

use crate::door;
use crate::look::{self, Volume};
use crate::steps::{Check, DamageDatabase, MakeBundles, MakeDisk, MakeRecovery, MakeStick, StateFile};
use crate::{bundles, recovery, stick};
use anyhow::{Context, Result, ensure};
use bakelite_spec::layout::Role;
use bakelite_vm::media::{blank, copy_sparse};
use bakelite_vm::{Disk, media::Source};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The boot medium, among what was remembered; no disk has such a name.
const BOOT: &str = "/boot";

/// The media.
pub struct Media {
    folder: PathBuf,
    image: PathBuf,
    /// The boot medium.
    pub boot: PathBuf,
    cards: u32,
    /// What disks were when they were made, for those that nobody may write to.
    sums: BTreeMap<String, String>,
    /// Files of a medium that were remembered, by the name they were given.
    kept: BTreeMap<String, Vec<u8>>,
    /// The highest revision of k3s's database that was seen on a medium: it never goes back.
    pub revision: u64,
}

impl Media {
    /// A boot medium of an image.
    pub fn new(folder: &Path, image: &Path) -> Result<Self> {
        let mut media = Self {
            folder: folder.into(),
            image: image.into(),
            boot: PathBuf::new(),
            cards: 0,
            sums: BTreeMap::new(),
            kept: BTreeMap::new(),
            revision: 0,
        };
        media.new_card()?;
        Ok(media)
    }

    /// Another medium of the same image takes the place of the boot medium.
    pub fn new_card(&mut self) -> Result<()> {
        self.copy_boot(None)
    }

    /// A disk takes the place of the boot medium.
    pub fn boot_from(&mut self, name: &str) -> Result<()> {
        let path = self.disk(name);
        ensure!(path.is_file(), "there is no disk {name}");
        self.boot = path;
        Ok(())
    }

    /// A copy of the boot medium, or with `None` of the image, takes its place.
    pub fn copy_boot(&mut self, size: Option<u64>) -> Result<()> {
        self.cards += 1;
        let target = self.folder.join(format!("boot-{}.img", self.cards));
        let from = if size.is_some() { &self.boot } else { &self.image };
        copy_sparse(from, &target, size.unwrap_or(0))?;
        self.boot = target;
        Ok(())
    }

    /// Makes a stick with bundles of images that lie beside this machine's.
    pub fn make_bundles(&mut self, wanted: &MakeBundles) -> Result<()> {
        let path = self.disk(&wanted.name);
        let images = self.image.parent().context("the image is in a folder")?;
        bundles::make(&door::program(), images, &path, wanted)?;
        self.sums.insert(wanted.name.clone(), look::sum(&path)?);
        Ok(())
    }

    /// Flashes the image onto the boot medium, whatever is on that by now.
    pub fn flash(&self, sets: &BTreeMap<String, String>) -> Result<()> {
        let (image, medium) = (self.image.display().to_string(), self.boot.display().to_string());
        let sets: Vec<String> =
            sets.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}")]).collect();
        let words = ["flash", &image, &medium].into_iter().chain(sets.iter().map(String::as_str));
        door::bakelite(&words.collect::<Vec<_>>(), &self.folder)
    }

    /// The image of another appliance, beside this machine's.
    pub fn image_of(&self, appliance: &str) -> PathBuf {
        self.image.with_file_name(format!("{appliance}.img"))
    }

    /// Where all of them are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a disk.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.folder.join(format!("disk-{name}.img"))
    }

    /// A disk as the machine gets it: a blank one keeps what was written to it from boot to boot.
    pub fn attach(&self, number: usize, disk: &Disk) -> Result<Disk> {
        let name = disk.name.clone().unwrap_or_else(|| format!("disk{number}"));
        let path = match &disk.source {
            Source::File(path) => path.clone(),
            Source::Blank(size) => {
                let path = self.disk(&name);
                if !path.exists() {
                    blank(&path, size.0)?;
                }
                path
            }
        };
        let file = File::options().write(true).open(&path)?;
        let (length, fitting) = (file.metadata()?.len(), disk.bus.fitting(file.metadata()?.len()));
        if fitting > length {
            // A card of that size which was flashed with it.
            file.set_len(fitting)?;
        }
        Ok(Disk { name: Some(name), bus: disk.bus, source: Source::File(path) })
    }

    /// Makes a disk, blank or somebody else's.
    pub fn make_disk(&mut self, wanted: &MakeDisk) -> Result<()> {
        let path = self.disk(&wanted.name);
        blank(&path, wanted.size.0)?;
        if let Some(kind) = wanted.holds {
            look::make_foreign(&path, kind)?;
        }
        self.sums.insert(wanted.name.clone(), look::sum(&path)?);
        Ok(())
    }

    /// Makes a stick with a set of the cluster on the card.
    pub fn make_stick(&mut self, wanted: &MakeStick) -> Result<()> {
        let state = Volume::state(&self.boot)?.repaired(&self.folder.join("checked.img"))?;
        let path = self.disk(&wanted.name);
        stick::make(&state, &path, wanted)?;
        self.sums.insert(wanted.name.clone(), look::sum(&path)?);
        Ok(())
    }

    /// Makes a recovery stick of the scenario's image.
    pub fn make_recovery(&mut self, wanted: &MakeRecovery) -> Result<()> {
        let path = self.disk(&wanted.name);
        recovery::make(&self.image, &path, &self.folder, wanted)?;
        if wanted.sets.is_empty() {
            return Ok(());
        }
        let state = Volume::state(&self.boot)?.repaired(&self.folder.join("checked.img"))?;
        recovery::add_sets(&state, &path, &wanted.sets)
    }

    /// Remembers the boot medium.
    pub fn keep_medium(&mut self) -> Result<()> {
        self.sums.insert(BOOT.into(), look::sum(&self.boot)?);
        Ok(())
    }

    /// That the boot medium is as it was.
    pub fn same_medium(&self) -> Result<()> {
        let before = self.sums.get(BOOT).context("the boot medium wasn't remembered")?;
        ensure!(look::sum(&self.boot)? == *before, "the boot medium was written to");
        Ok(())
    }

    /// Puts a set of the cluster on a data disk onto the card.
    pub fn set_on_card(&mut self, disk: &str) -> Result<()> {
        let state = self.volume(None)?.repaired(&self.folder.join("checked.img"))?;
        let data = self.volume(Some(disk))?.repaired(&self.folder.join("checked-data.img"))?;
        stick::put_on_card(&self.boot, &state, &data)
    }

    /// That on a stick that the keeper writes to each backup with a name opens: as the stick is, and once it was put in order,
    /// as it is before the next one comes; then all but the newest, which is written again.
    pub fn stick_is_whole(&self, name: &str) -> Result<()> {
        let state = self.volume(None)?.repaired(&self.folder.join("checked.img"))?;
        let key = stick::device_key(&state)?;
        let seen = stick::sets_are_whole(&self.disk(name), &key, &BTreeMap::new())?;
        ensure!(seen > 0, "there is no backup on {name}");
        Ok(())
    }

    /// That a disk is as it was made, byte for byte.
    pub fn same_disk(&self, name: &str) -> Result<()> {
        let before = self.sums.get(name).with_context(|| format!("no disk {name} was made"))?;
        ensure!(look::sum(&self.disk(name))? == *before, "{name} was written to");
        Ok(())
    }

    /// A file system: the state partition's, or that of a disk's data partition.
    fn volume(&self, disk: Option<&str>) -> Result<Volume> {
        match disk {
            None => Volume::state(&self.boot),
            Some(name) => Volume::data(&self.disk(name))?.with_context(|| format!("{name} is no finished data disk")),
        }
    }

    /// Looks whether a file is as expected.
    pub fn file(&mut self, wanted: &StateFile) -> Result<()> {
        // What was written last may still be in the journal.
        let volume = self.volume(wanted.disk.as_deref())?.repaired(&self.folder.join("checked.img"))?;
        let found = volume.file(&wanted.path)?;
        let Some(bytes) = found else {
            ensure!(wanted.absent, "{} is not there", wanted.path);
            return Ok(());
        };
        ensure!(!wanted.absent, "{} is there", wanted.path);
        let text = String::from_utf8_lossy(&bytes);
        ensure!(text.contains(&wanted.contains), "{} holds {:?}, not {:?}", wanted.path, text.trim(), wanted.contains);
        if let Some(name) = &wanted.same_as {
            let kept = self.kept.get(name).with_context(|| format!("nothing was kept as {name}"))?;
            ensure!(*kept == bytes, "{} isn't what was kept as {name}", wanted.path);
        }
        if let Some(name) = &wanted.keep_as {
            self.kept.insert(name.clone(), bytes);
        }
        Ok(())
    }

    /// Checks a file system and the database in it. After a pulled plug that is done with a copy, repaired as at a boot.
    pub fn check(&mut self, wanted: &Check) -> Result<()> {
        let disk = wanted.disk.as_deref();
        let mut volume = self.volume(disk)?;
        if !wanted.in_order {
            volume = volume.repaired(&self.folder.join("checked.img"))?;
        }
        volume.is_clean()?;
        if wanted.database {
            let revision = volume.revision()?.with_context(|| format!("there is no {}", look::DATABASE))?;
            ensure!(
                revision >= self.revision,
                "the database has revision {revision}, and {} was on a medium before",
                self.revision
            );
            self.revision = revision;
        }
        Ok(())
    }

    /// Damages k3s's database on the card: what comes of it may be older than what was seen before, as its rows are lost.
    pub fn damage_database(&mut self, kind: DamageDatabase) -> Result<()> {
        self.revision = 0;
        Volume::state(&self.boot)?.damage_database(kind)
    }

    /// Removes files from the state partition.
    pub fn remove_files(&self, paths: &[String]) -> Result<()> {
        let commands: Vec<String> = paths.iter().map(|path| format!("rm {path}")).collect();
        Volume::state(&self.boot)?.write(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Writes a person's settings onto the boot partition.
    pub fn overlay(&self, text: &str) -> Result<()> {
        let start = look::entry(&mut File::open(&self.boot)?, Role::Boot)?.start();
        let written = self.folder.join("bakelite.yaml");
        std::fs::File::create(&written).and_then(|mut file| file.write_all(text.as_bytes()))?;
        let target = format!("{}@@{start}", self.boot.display());
        let source = written.display().to_string();
        door::run(&stick::tool("mcopy")?, &["-o", "-i", &target, &source, "::"], Path::new("/")).map(drop)
    }

    /// Makes k3s's database on the card as large as that of a cluster that has something to do.
    pub fn grow_database(&mut self, size: u64) -> Result<()> {
        let volume = Volume::state(&self.boot)?;
        volume.grow_database(size)?;
        self.revision = volume.revision()?.context("the database is gone")?;
        Ok(())
    }
}
