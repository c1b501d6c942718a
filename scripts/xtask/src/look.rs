//! Looks into media from outside while their machine is off: file systems, files in them, k3s's database.
//!
//! Nothing is mounted and no root is needed: e2fsck and debugfs work on a part of a plain file. What changes a medium
//! here works on a copy, but for [`grow_database`].

use crate::damage;
use crate::door;
use crate::steps::DamageDatabase;
use anyhow::{Context, Result, ensure};
use bakelite_disk::table::{Entry, Table};
use bakelite_disk::{born::Born, data};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_vm::media::copy_part;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// k3s's database below the folder of its data, on whatever medium.
pub const DATABASE: &str = "/rancher/k3s/server/db/state.db";
/// The database of a set that is unpacked beside it.
pub const STAGED: &str = "/rancher/bakelite/staged/db/state.db";
/// The keeper's mirror of it on a data disk.
const MIRROR: &str = "/bakelite/mirror/state.db";

/// The database that was there before the act that began an epoch.
pub fn aside(epoch: u64) -> String {
    format!("/rancher/bakelite/{}/server/db/state.db", bakelite_plan::restore::aside(epoch))
}

/// A file system in a partition of a medium.
#[derive(Clone, Debug)]
pub struct Volume {
    medium: PathBuf,
    start: u64,
    length: u64,
}

/// The number of a row of k3s's database, and its value.
pub type Row = (i64, Vec<u8>);

/// The partition table of a medium.
pub fn table(file: &mut File) -> Result<Table> {
    let sectors = file.metadata()?.len() / SECTOR;
    Table::read(file, sectors).context("reading the partition table")
}

/// The partition of a role.
pub fn entry(file: &mut File, role: Role) -> Result<Entry> {
    table(file)?
        .role(role)
        .map(|(_, entry)| entry.clone())
        .with_context(|| format!("there is no partition {}", role.label()))
}

/// Runs debugfs; what it says.
pub fn debugfs(commands: &[&str], target: &str, write: bool) -> Result<String> {
    let program = tool("debugfs")?;
    let mut output = String::new();
    for command in commands {
        let mode: &[&str] = if write { &["-w"] } else { &[] };
        output.push_str(&door::run(&program, &[mode, &["-R", command, target]].concat(), Path::new("/"))?);
    }
    Ok(output)
}

fn tool(name: &str) -> Result<String> {
    let found = door::find(name).with_context(|| format!("there is no {name}; Debian has it in e2fsprogs"))?;
    Ok(found.display().to_string())
}

impl Volume {
    /// The state partition of a boot medium.
    pub fn state(medium: &Path) -> Result<Self> {
        Self::of(medium, Role::State)
    }

    fn of(medium: &Path, role: Role) -> Result<Self> {
        let mut file = File::open(medium).with_context(|| format!("opening {}", medium.display()))?;
        Ok(Self::at(medium, &entry(&mut file, role)?))
    }

    fn at(medium: &Path, entry: &Entry) -> Self {
        Self { medium: medium.into(), start: entry.start(), length: entry.length() }
    }

    /// The state partition once it is born; `None` before.
    pub fn born_state(medium: &Path) -> Result<Option<Self>> {
        let mut file = File::open(medium)?;
        let Ok(entry) = entry(&mut file, Role::State) else { return Ok(None) };
        let born = Born::read(&mut file, entry.start(), entry.length()).context("reading the born record")?;
        Ok(born.map(|_| Self::at(medium, &entry)))
    }

    /// The data partition of a disk, once it is born; `None` before.
    pub fn data(disk: &Path) -> Result<Option<Self>> {
        let mut file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
        let sectors = file.metadata()?.len() / SECTOR;
        let found = data::find(&mut file, sectors).context("reading the data disk")?;
        Ok(found.filter(|found| found.born).map(|found| Self::at(disk, &found.entry)))
    }

    fn target(&self) -> String {
        format!("{}?offset={}", self.medium.display(), self.start)
    }

    /// A copy in a file of its own with its journal played and repaired where that needs no person, as at a boot.
    pub fn repaired(&self, copy: &Path) -> Result<Self> {
        // e2fsck can play a journal only where a file system is all of a file.
        copy_part(&self.medium, self.start, self.length, copy)?;
        let (status, words) = door::end_of(&tool("e2fsck")?, &["-p", &copy.display().to_string()])?;
        ensure!(status <= 1, "e2fsck -p ends with {status}: {}", words.trim());
        Ok(Self { medium: copy.into(), start: 0, length: self.length })
    }

    /// That nothing at all is wrong with it.
    pub fn is_clean(&self) -> Result<()> {
        let (status, words) = door::end_of(&tool("e2fsck")?, &["-f", "-n", &self.target()])?;
        ensure!(status == 0, "e2fsck -fn ends with {status}: {}", words.trim());
        Ok(())
    }

    /// A file's bytes, if it is there.
    pub fn file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let folder = tempfile::tempdir()?;
        Ok(if self.take_out(path, &folder.path().join("file"))? {
            Some(std::fs::read(folder.path().join("file"))?)
        } else {
            None
        })
    }

    /// The names in a folder; none where there is no folder.
    pub fn names(&self, folder: &str) -> Result<Vec<String>> {
        // Lines are /inode/mode/user/group/name/size/.
        let said = debugfs(&[&format!("ls -p \"{folder}\"")], &self.target(), false)?;
        let names = said.lines().filter_map(|line| line.split('/').nth(5)).map(String::from);
        Ok(names.filter(|name| !matches!(name.as_str(), "" | "." | "..")).collect())
    }

    /// Changes it by debugfs's commands.
    pub fn write(&self, commands: &[&str]) -> Result<()> {
        debugfs(commands, &self.target(), true).map(drop)
    }

    /// Takes a file out; whether it is there.
    pub fn take_out(&self, path: &str, to: &Path) -> Result<bool> {
        debugfs(&[&format!("dump \"{path}\" {}", to.display())], &self.target(), false)?;
        Ok(to.is_file())
    }

    /// k3s's database as its highest revision, checked by SQLite; `None` where there is none.
    pub fn revision(&self) -> Result<Option<u64>> {
        self.revision_of(DATABASE, "-wal")
    }

    /// The same of the keeper's mirror of it.
    pub fn revision_of_mirror(&self) -> Result<Option<u64>> {
        self.revision_of(MIRROR, "-journal")
    }

    /// The same of any database, which may have a file beside it that ends so.
    pub fn revision_of(&self, database: &str, beside: &str) -> Result<Option<u64>> {
        let Some((_folder, connection)) = self.open(database, beside)? else { return Ok(None) };
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'kine'";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Some(0));
        }
        let highest = connection.query_row("SELECT coalesce(max(id), 0) FROM kine", [], |row| row.get::<_, i64>(0))?;
        Ok(Some(u64::try_from(highest)?))
    }

    /// What kubelets have said of their nodes beyond a revision, by its number: each has the id of one boot in it, and is of no
    /// other start. `None` where there is no such database.
    pub fn nodes_beyond(&self, database: &str, revision: u64) -> Result<Option<BTreeSet<Row>>> {
        let Some((_folder, connection)) = self.open(database, "-wal")? else { return Ok(None) };
        let mut rows = connection.prepare(
            "SELECT id, value FROM kine WHERE id > ?1 AND name LIKE '/registry/minions/%' AND value IS NOT NULL",
        )?;
        let rows = rows.query_map([i64::try_from(revision)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Some(rows.collect::<Result<_, _>>()?))
    }

    /// A copy of a database that SQLite finds whole, with the folder that holds it.
    fn open(&self, database: &str, beside: &str) -> Result<Option<(TempDir, Connection)>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.db");
        if !self.take_out(database, &path)? {
            return Ok(None);
        }
        self.take_out(&format!("{database}{beside}"), &folder.path().join(format!("state.db{beside}")))?;
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let answer: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(answer == "ok", "SQLite says of {database}: {answer}");
        Ok(Some((folder, connection)))
    }

    /// Damages k3s's database.
    pub fn damage_database(&self, kind: DamageDatabase) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.db");
        ensure!(self.take_out(DATABASE, &path)?, "there is no {DATABASE}");
        let log = format!("{DATABASE}-wal");
        // What is in the log would heal a page of the file: it is folded, or lost.
        if !kind.takes_the_log() {
            self.take_out(&log, &folder.path().join("state.db-wal"))?;
        }
        damage::database(&path, kind)?;
        let mut commands = vec![format!("rm {log}"), format!("rm {DATABASE}")];
        if kind != DamageDatabase::Missing {
            commands.push(format!("write {} {DATABASE}", path.display()));
        }
        let stale = folder.path().join("state.db-wal");
        if kind == DamageDatabase::StaleLog {
            commands.push(format!("write {} {log}", stale.display()));
        }
        // After a pulled plug its journal would undo all this: the machine went down in order, and only seems not to have.
        commands.push("write /dev/null /bakelite/dirty".into());
        self.write(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Puts rows into k3s's database until it has a size, as if they were a cluster's, the last ones only in its -wal.
    pub fn grow_database(&self, size: u64) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.db");
        ensure!(self.take_out(DATABASE, &path)?, "there is no {DATABASE}");
        let wal = folder.path().join("state.db-wal");
        self.take_out(&format!("{DATABASE}-wal"), &wal)?;
        let connection = Connection::open(&path)?;
        connection.execute_batch("PRAGMA synchronous = OFF")?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let insert =
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
            VALUES ('/registry/rehearsal/grown-' || ?1, 1, 0, 0, 0, 0, randomblob(262144), NULL)";
        let mut number = 0;
        while std::fs::metadata(&path)?.len() < size {
            connection.execute_batch("BEGIN")?;
            for _ in 0..32 {
                connection.execute(insert, [number])?;
                number += 1;
            }
            connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0")?;
        for _ in 0..16 {
            connection.execute(insert, [number])?;
            number += 1;
        }
        drop(connection);
        ensure!(std::fs::metadata(&wal)?.len() > 0, "the last rows aren't in the -wal");
        for (file, from) in [(DATABASE.to_string(), &path), (format!("{DATABASE}-wal"), &wal)] {
            // debugfs answers a file that isn't there with words only, which is as good.
            let commands = [format!("rm {file}"), format!("write {} {file}", from.display())];
            debugfs(&commands.each_ref().map(String::as_str), &self.target(), true)?;
        }
        self.is_clean()
    }
}

/// Makes a disk that holds somebody else's data.
pub fn make_foreign(path: &Path, kind: crate::steps::Holds) -> Result<()> {
    use crate::steps::Holds;
    use std::io::{Seek, SeekFrom, Write};
    let target = path.display().to_string();
    match kind {
        Holds::Ext4 => {
            let folder = tempfile::tempdir()?;
            File::create(folder.path().join("photographs"))?.write_all(&[7; 100_000])?;
            let from = folder.path().display().to_string();
            door::run(&tool("mkfs.ext4")?, &["-q", "-F", "-L", "BACKUPS", "-d", &from, &target], Path::new("/"))?;
        }
        Holds::Fat => {
            let program = door::find("mkfs.fat").context("there is no mkfs.fat; Debian has it in dosfstools")?;
            door::run(&program.display().to_string(), &["-n", "BACKUPS", &target], Path::new("/"))?;
        }
        Holds::Exfat => {
            let program = door::find("mkfs.exfat").context("there is no mkfs.exfat; Debian has it in exfatprogs")?;
            door::run(&program.display().to_string(), &["-L", "BACKUPS", &target], Path::new("/"))?;
        }
        Holds::Luks | Holds::Noise => {
            let mut file = File::options().write(true).open(path)?;
            let mut noise = fastrand::Rng::with_seed(7);
            let bytes: Vec<u8> = (0..1 << 20).map(|_| noise.u8(..)).collect();
            let (at, head): (u64, &[u8]) =
                if kind == Holds::Luks { (0, b"LUKS\xba\xbe\x00\x02") } else { (5 << 20, b"") };
            file.seek(SeekFrom::Start(at))?;
            file.write_all(head)?;
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// What tells one content of a file from another: a sum over its length and its pieces that aren't all zeros, each with its
/// place. The gigabytes of holes that a medium begins with needn't be read for it.
pub fn sum(path: &Path) -> Result<String> {
    const PIECE: u64 = 1 << 16;
    let file = File::open(path)?;
    let (length, mut piece) = (file.metadata()?.len(), vec![0; PIECE as usize]);
    let (mut sum, mut at) = (Sha256::new_with_prefix(length.to_le_bytes()), 0);
    while let Some(data) = next_data(&file, at)? {
        at = data / PIECE * PIECE;
        let bytes = &mut piece[..PIECE.min(length - at) as usize];
        file.read_exact_at(bytes, at)?;
        if bytes.iter().any(|byte| *byte != 0) {
            sum.update(at.to_le_bytes());
            sum.update(bytes);
        }
        at += PIECE;
    }
    Ok(hexadecimal(sum.finalize()))
}

/// Where a file has data from a place on, if it has any.
fn next_data(file: &File, at: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_tells_contents_apart_and_not_holes_from_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, zeros: u64, places: &[u64]| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(3 << 20).unwrap();
            file.write_all_at(&vec![0; zeros as usize], 1 << 20).unwrap();
            places.iter().for_each(|place| file.write_all_at(b"x", *place).unwrap());
            sum(&path).unwrap()
        };
        let whole = write("a", 0, &[5, 2 << 20]);
        assert_eq!(whole, write("b", 1 << 20, &[5, 2 << 20]));
        for places in [&[5][..], &[6, 2 << 20], &[5, (2 << 20) + 65536], &[5, (3 << 20) - 1]] {
            assert_ne!(whole, write("c", 0, places), "{places:?}");
        }
    }
}
