//! Damage to a boot medium while its machine is off.
//!
//! The medium is a plain file. What is inside ext4 is reached by debugfs, which needs no mount and no root.

use crate::look::{debugfs, entry, table};
use crate::recovery;
use crate::steps::{Damage, DamageDatabase};
use anyhow::{Context, Result, bail, ensure};
use bakelite_disk::table::Entry;
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use rusqlite::{Connection, config::DbConfig};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Does some damage.
pub fn damage(medium: &Path, damage: &Damage) -> Result<()> {
    let mut file = open(medium)?;
    match damage {
        Damage::Overwrite { partition, at, length, byte } => {
            let entry = entry(&mut file, *partition)?;
            let base = if *at < 0 { entry.start() + entry.length() } else { entry.start() };
            let at = base.checked_add_signed(*at).context("that is before the medium")?;
            ensure!(
                at >= entry.start() && at + length.0 <= entry.start() + entry.length(),
                "that is outside the partition"
            );
            fill(&mut file, at, length.0, *byte)
        }
        Damage::Footer { slot } => {
            let entry = entry(&mut file, Role::of_slot(slot).context("a slot is a or b")?)?;
            fill(&mut file, entry.start() + entry.length() - RECORD + 32, 8, None)
        }
        Damage::Superblocks { first_only } => superblocks(&mut file, *first_only),
        Damage::HalfMade => {
            let entry = entry(&mut file, Role::State)?;
            fill(&mut file, entry.start(), 1 << 20, None)?;
            let blocks = copies_of_superblock(&mut file, &entry)?;
            blocks.into_iter().try_for_each(|at| fill(&mut file, at, 1024, Some(0)))?;
            fill(&mut file, entry.start() + entry.length() - RECORD, RECORD, Some(0))
        }
        Damage::StateEntry => {
            let mut table = table(&mut file)?;
            let (number, _) = table.role(Role::State).context("there is no state partition")?;
            table.entries.remove(&number);
            table.write(&mut file).context("writing the partition table")
        }
        Damage::Table { backup } => {
            let length = file.metadata()?.len();
            let at = if *backup { length - 33 * SECTOR } else { SECTOR };
            fill(&mut file, at, 33 * SECTOR, Some(0))
        }
        Damage::BootFiles { below } => recovery::zero_files(medium, entry(&mut file, Role::Boot)?.start(), below),
        Damage::FillState { leave } => fill_state(medium, &mut file, leave.0),
    }
}

fn open(medium: &Path) -> Result<File> {
    File::options().read(true).write(true).open(medium).with_context(|| format!("opening {}", medium.display()))
}

/// Overwrites bytes by one byte, or by noise that is the same each time.
fn fill(file: &mut File, at: u64, length: u64, byte: Option<u8>) -> Result<()> {
    let mut noise = fastrand::Rng::with_seed(at);
    file.seek(SeekFrom::Start(at))?;
    let mut left = length;
    while left > 0 {
        let count = left.min(1 << 20);
        let bytes: Vec<u8> = (0..count).map(|_| byte.unwrap_or_else(|| noise.u8(..))).collect();
        file.write_all(&bytes).context("overwriting")?;
        left -= count;
    }
    Ok(())
}

/// Damages a database file that nobody has open; its -wal lies beside it.
pub fn database(path: &Path, kind: DamageDatabase) -> Result<()> {
    let page = |query: &str| -> Result<i64> { Ok(Connection::open(path)?.query_row(query, [], |row| row.get(0))?) };
    if kind == DamageDatabase::Keys {
        let spoil = "UPDATE kine SET value = zeroblob(length(value)) WHERE name LIKE '/bootstrap/%'";
        Connection::open(path)?.execute(spoil, [])?;
    }
    page("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let size = u64::try_from(page("PRAGMA page_size")?)?;
    let root = "SELECT rootpage FROM sqlite_schema WHERE type = 'index' ORDER BY rootpage LIMIT 1";
    let index = u64::try_from(page(root)?)?;
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    match kind {
        DamageDatabase::Page => fill(&mut file, length / 2 / 4096 * 4096, 4096, Some(0)),
        DamageDatabase::FirstPages => fill(&mut file, size, 10 * size, Some(0)),
        DamageDatabase::Header => fill(&mut file, 0, 100, None),
        DamageDatabase::Half => Ok(file.set_len(length / 2)?),
        DamageDatabase::Empty => Ok(file.set_len(0)?),
        DamageDatabase::IndexRoot => fill(&mut file, (index - 1) * size, size, Some(0)),
        DamageDatabase::StaleLog => leave_stale_log(path),
        DamageDatabase::Keys | DamageDatabase::Missing | DamageDatabase::NoLog => Ok(()),
    }
}

/// Makes a database's file anew, with the same content in other pages, and leaves a -wal beside it that belongs to what it was.
fn leave_stale_log(path: &Path) -> Result<()> {
    let before = path.with_extension("before");
    std::fs::copy(path, &before)?;
    let connection = Connection::open(&before)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE kine SET lease = lease + 0, old_value = value")?;
    drop(connection);
    let log = before.with_extension("before-wal");
    ensure!(std::fs::metadata(&log)?.len() > 0, "there is nothing in the -wal");
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA auto_vacuum = FULL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(connection);
    Ok(std::fs::copy(log, path.with_extension("db-wal")).map(drop)?)
}

fn superblocks(file: &mut File, first_only: bool) -> Result<()> {
    let entry = entry(file, Role::State)?;
    let mut all = copies_of_superblock(file, &entry)?;
    all.push(entry.start() + 1024);
    if first_only {
        all = vec![entry.start() + 1024];
    }
    all.into_iter().try_for_each(|at| fill(file, at, 1024, None))
}

/// The places of the backup superblocks: at the start of a group of 32768 blocks of 4 KiB or of 8192 of 1 KiB
/// (mke2fs's choices), wherever there is the magic number.
fn copies_of_superblock(file: &mut File, entry: &Entry) -> Result<Vec<u64>> {
    let mut places = Vec::new();
    for (first, group) in [(0, 32_768 * 4096), (1024, 8192 * 1024)] {
        let mut at = first + group;
        while at + 1024 <= entry.length() {
            let mut magic = [0; 2];
            file.seek(SeekFrom::Start(entry.start() + at + 56))?;
            file.read_exact(&mut magic)?;
            if magic == [0x53, 0xef] {
                places.push(entry.start() + at);
            }
            at += group;
        }
    }
    Ok(places)
}

fn fill_state(medium: &Path, file: &mut File, leave: u64) -> Result<()> {
    let entry = entry(file, Role::State)?;
    let target = format!("{}?offset={}", medium.display(), entry.start());
    let stats = debugfs(&["stats -h"], &target, false)?;
    let number = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        line.with_context(|| format!("debugfs names no `{name}`"))
    };
    let (free, reserved, size) = (number("Free blocks:")?, number("Reserved block count:")?, number("Block size:")?);
    let taken = free.saturating_sub(reserved + leave.div_ceil(size));
    if taken == 0 {
        bail!("only {free} blocks are free");
    }
    let commands = ["write /dev/null filler".to_string(), format!("fallocate filler 0 {}", taken - 1)];
    debugfs(&commands.each_ref().map(String::as_str), &target, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door;
    use crate::look::Volume;
    use bakelite_disk::table::Table;
    use bakelite_spec::layout;
    use bakelite_spec::quantity::Size;
    use std::path::PathBuf;

    /// A medium with a state partition of 400 MiB, made as the device makes it; `None` where mkfs.ext4 is missing.
    fn medium(folder: &Path) -> Option<PathBuf> {
        let Some(mkfs) = door::find("mkfs.ext4").filter(|_| door::find("debugfs").is_some()) else {
            eprintln!("SKIPPED: needs e2fsprogs");
            return None;
        };
        let path = folder.join("medium.img");
        let layout = layout::layout(layout::Scheme::Gpt, Size(1 << 20));
        let length = layout.length + (400 << 20);
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        let mut table = Table { sectors: length / SECTOR, ..Table::of_layout(&layout) };
        let guid = Role::State.unstamped_guid().parse().unwrap();
        table.add(Role::State, table.first_free(), length / SECTOR - 2049, &mut || guid);
        table.write(&mut file).unwrap();
        let state = entry(&mut file, Role::State).unwrap();
        let (offset, size) = (format!("offset={}", state.start()), format!("{}k", (state.length() - RECORD) / 1024));
        let target = path.display().to_string();
        door::run(&mkfs.display().to_string(), &["-q", "-b", "4096", "-E", &offset, &target, &size], folder).unwrap();
        fill(&mut file, state.start() + state.length() - RECORD, RECORD, Some(1)).unwrap();
        Some(path)
    }

    fn free_blocks(path: &Path) -> String {
        let start = entry(&mut open(path).unwrap(), Role::State).unwrap().start();
        debugfs(&["stats -h"], &format!("{}?offset={start}", path.display()), false).unwrap_or_default()
    }

    #[test]
    fn files_are_looked_at_and_the_partition_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = medium(folder.path()) else { return };
        let filler = || Volume::state(&path).unwrap().file("/filler").unwrap().map(|bytes| bytes.len());
        assert_eq!(filler(), None);
        damage(&path, &Damage::FillState { leave: Size(1 << 20) }).unwrap();
        assert!(filler().is_some());
        assert!(damage(&path, &Damage::FillState { leave: Size(1 << 30) }).is_err());
    }

    #[test]
    fn each_damage_is_where_it_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = medium(folder.path()) else { return };
        assert!(free_blocks(&path).contains("Free blocks"));
        damage(&path, &Damage::Superblocks { first_only: true }).unwrap();
        let state = entry(&mut open(&path).unwrap(), Role::State).unwrap();
        assert_eq!(
            copies_of_superblock(&mut open(&path).unwrap(), &state).unwrap().len(),
            2,
            "groups 1 and 3 have one"
        );
        damage(&path, &Damage::Superblocks { first_only: false }).unwrap();
        assert!(copies_of_superblock(&mut open(&path).unwrap(), &state).unwrap().is_empty());
        damage(&path, &Damage::HalfMade).unwrap();
        damage(&path, &Damage::Overwrite { partition: Role::State, at: -1, length: Size(1), byte: Some(7) }).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let end = usize::try_from(state.start() + state.length()).unwrap();
        assert_eq!((bytes[end - 4096], bytes[end - 1]), (0, 7));
        let outside = Damage::Overwrite { partition: Role::State, at: -1, length: Size(2), byte: Some(7) };
        assert!(damage(&path, &outside).is_err());
        damage(&path, &Damage::Footer { slot: "a".into() }).unwrap();
        damage(&path, &Damage::Table { backup: false }).unwrap();
        assert!(table(&mut open(&path).unwrap()).unwrap().needs_repair);
        damage(&path, &Damage::StateEntry).unwrap();
        assert!(entry(&mut open(&path).unwrap(), Role::State).is_err());
        damage(&path, &Damage::Table { backup: false }).unwrap();
        damage(&path, &Damage::Table { backup: true }).unwrap();
        assert!(table(&mut open(&path).unwrap()).is_err());
    }
}
