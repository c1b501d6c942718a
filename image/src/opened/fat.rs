//! A FAT32 volume as lint sees it: every file by its path, and everything that isn't as the specification wants it.
//!
//! Reads with its own eyes (Microsoft's FAT specification, 1.03), not with the library that wrote the volume, and changes
//! nothing. Foreign bytes are refused or become a problem in words; chains are followed only as far as there are
//! clusters, so nothing is endless.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The most that tables may take, in bytes: a volume of 2 TiB has no business here.
const MOST_TABLE: u64 = 64 << 20;
const FOLDER: u8 = 0x10;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
const END: u32 = 0x0fff_fff8;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatFile {
    /// Its length in bytes.
    pub size: u64,
    clusters: Vec<u32>,
}

/// What is in a volume.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    /// The files by their paths.
    pub files: BTreeMap<String, FatFile>,
    /// What is wrong with tables and chains.
    pub problems: Vec<String>,
    /// Paths with a date that the calendar doesn't have.
    pub bad_dates: Vec<String>,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Clusters that nothing uses.
    pub free: u64,
    /// The first byte behind all that is used.
    pub used_to: u64,
    data_at: u64,
    table: Vec<u32>,
}

/// Reads at a byte of the volume.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    half(bytes, at) | half(bytes, at + 2) << 16
}

/// Reads a volume.
///
/// # Errors
/// When it can't be read, or is no FAT32.
pub fn read(read_at: ReadAt<'_>, length: u64) -> io::Result<Volume> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
    let mut first = vec![0; 512];
    read_at(0, &mut first)?;
    let (sector, cluster) = (u64::from(half(&first, 11)), u64::from(first[13]));
    let (reserved, tables) = (u64::from(half(&first, 14)), u64::from(first[16]));
    let (sectors, table_sectors) = (u64::from(word(&first, 32)), u64::from(word(&first, 36)));
    let sound = first[510..] == [0x55, 0xaa]
        && [512, 1024, 2048, 4096].contains(&sector)
        && cluster.is_power_of_two()
        && (1..=2).contains(&tables)
        && half(&first, 22) == 0
        && table_sectors * sector <= MOST_TABLE;
    if !sound {
        return Err(refuse("it has no FAT32 boot sector"));
    }
    let data_at = (reserved + tables * table_sectors) * sector;
    if sectors * sector > length || data_at >= sectors * sector {
        return Err(refuse("its boot sector speaks of more than the partition holds"));
    }
    let count = (sectors * sector - data_at) / (cluster * sector);
    let mut bytes = vec![0; (table_sectors * sector) as usize];
    read_at(reserved * sector, &mut bytes)?;
    let table: Vec<u32> = (0..bytes.len() / 4).map(|entry| word(&bytes, entry * 4) & 0x0fff_ffff).collect();
    if (table.len() as u64) < count + 2 {
        return Err(refuse("its table is too short for its clusters"));
    }
    let mut volume = Volume { cluster: cluster * sector, data_at, table, ..Volume::default() };
    if first[65] & 1 != 0 || volume.table[1] & 0x0800_0000 == 0 {
        volume.problems.push("it is marked as not cleanly unmounted".into());
    }
    if tables == 2 {
        let mut second = vec![0; bytes.len()];
        read_at((reserved + table_sectors) * sector, &mut second)?;
        if second != bytes {
            volume.problems.push("its two tables differ".into());
        }
    }
    volume.table.truncate(count as usize + 2);
    let mut used = BTreeSet::new();
    volume.folder(read_at, "", word(&first, 44), &mut used, 0)?;
    let taken = (2u32..).zip(&volume.table[2..]).filter(|(_, next)| **next != 0);
    let lost = taken.filter(|(cluster, next)| **next != 0x0fff_fff7 && !used.contains(cluster)).count();
    if lost > 0 {
        volume.problems.push(format!("{lost} clusters belong to no file"));
    }
    let last = used.last().map_or(1, |cluster| u64::from(*cluster));
    volume.used_to = data_at + (last - 1) * volume.cluster;
    volume.free = volume.table[2..].iter().filter(|next| **next == 0).count() as u64;
    Ok(volume)
}

impl Volume {
    /// The content of a file.
    ///
    /// # Errors
    /// When there is none or it can't be read.
    pub fn content(&self, read_at: ReadAt<'_>, path: &str) -> io::Result<Vec<u8>> {
        let file = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; file.clusters.len() * self.cluster as usize];
        for (cluster, part) in file.clusters.iter().zip(bytes.chunks_exact_mut(self.cluster as usize)) {
            read_at(self.place(*cluster), part)?;
        }
        bytes.truncate(file.size as usize);
        Ok(bytes)
    }

    /// The first byte and the length of a file that lies in one piece, as the workshop writes them.
    pub fn place_of(&self, path: &str) -> Option<(u64, u64)> {
        let file = self.files.get(path)?;
        let whole = file.clusters.windows(2).all(|pair| pair[1] == pair[0] + 1);
        file.clusters.first().filter(|_| whole).map(|first| (self.place(*first), file.size))
    }

    fn place(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - 2) * self.cluster
    }

    /// The clusters from a first one on; what is wrong with the chain becomes a problem.
    fn chain(&mut self, path: &str, first: u32, used: &mut BTreeSet<u32>) -> Vec<u32> {
        let mut clusters = Vec::new();
        let mut cluster = first;
        while cluster < END {
            let inside = cluster >= 2 && (cluster as usize) < self.table.len();
            if !inside || !used.insert(cluster) {
                let what = if inside { "shares a cluster" } else { "leaves the volume" };
                self.problems.push(format!("the chain of /{path} {what}"));
                break;
            }
            clusters.push(cluster);
            cluster = self.table[cluster as usize];
        }
        clusters
    }

    fn folder(
        &mut self,
        read_at: ReadAt<'_>,
        path: &str,
        first: u32,
        used: &mut BTreeSet<u32>,
        depth: u32,
    ) -> io::Result<()> {
        let mut long_name: Vec<u16> = Vec::new();
        let mut cluster = vec![0; self.cluster as usize];
        for number in self.chain(path, first, used) {
            read_at(self.place(number), &mut cluster)?;
            for entry in cluster.clone().chunks_exact(32) {
                match (entry[0], entry[11]) {
                    (0, _) => return Ok(()),
                    (0xe5, _) => long_name.clear(),
                    (_, LONG_NAME) => {
                        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
                        let units = places.map(|at| half(entry, at) as u16);
                        long_name.splice(0..0, units.into_iter().take_while(|unit| *unit != 0));
                    }
                    (_, attributes) if attributes & LABEL != 0 => long_name.clear(),
                    (b'.', _) => long_name.clear(),
                    (_, attributes) => {
                        let name = name(entry, &std::mem::take(&mut long_name));
                        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                        self.member(read_at, &path, entry, attributes, used, depth)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        read_at: ReadAt<'_>,
        path: &str,
        entry: &[u8],
        attributes: u8,
        used: &mut BTreeSet<u32>,
        depth: u32,
    ) -> io::Result<()> {
        if [16, 18, 24].into_iter().any(|at| !is_date(half(entry, at))) {
            self.bad_dates.push(path.into());
        }
        let first = half(entry, 20) << 16 | half(entry, 26);
        if attributes & FOLDER != 0 {
            return if depth < 16 { self.folder(read_at, path, first, used, depth + 1) } else { Ok(()) };
        }
        let size = u64::from(word(entry, 28));
        let mut clusters = if size == 0 { Vec::new() } else { self.chain(path, first, used) };
        let wanted = size.div_ceil(self.cluster);
        if clusters.len() as u64 != wanted {
            self.problems.push(format!("/{path} has not as many clusters as its size wants"));
        }
        clusters.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.files.insert(path.into(), FatFile { size: size.min(clusters.len() as u64 * self.cluster), clusters });
        Ok(())
    }
}

/// The long name, else the short one.
fn name(entry: &[u8], long: &[u16]) -> String {
    if !long.is_empty() {
        return String::from_utf16_lossy(long);
    }
    let part = |range: std::ops::Range<usize>, lower: u8| {
        let text = String::from_utf8_lossy(&entry[range]).trim_end().to_string();
        if entry[12] & lower != 0 { text.to_lowercase() } else { text }
    };
    let (base, end) = (part(0..8, 0x08), part(8..11, 0x10));
    if end.is_empty() { base } else { format!("{base}.{end}") }
}

/// Whether FAT's date has a day and a month.
fn is_date(date: u32) -> bool {
    (1..=31).contains(&(date & 31)) && (1..=12).contains(&(date >> 5 & 15))
}
