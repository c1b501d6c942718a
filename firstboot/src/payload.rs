//! k3s's files, looked at: those of the image, what k3s unpacked, and the index of the container runtime's store.

use crate::error::FirstbootError;
use crate::world::Changed;
use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::prove_live;
use bakelite_datastore::token::TokenError;
use bakelite_plan::facts::Store;
use bakelite_spec::manifest::PayloadFile;
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, names_in, read_text, words};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Where k3s lists what it unpacks (pkg/dataverify): `<sha256>  <path below the folder of the list>`.
const SUMS: &str = "bin/.sha256sums";
/// The index of containerd's store, a bbolt database.
const INDEX: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// bbolt's pages are as long as the kernel's (4 KiB on all our boards); the first two hold the same, written in turn.
const PAGE: usize = 4096;
const PAGES: usize = 2;

fn sha256(path: &Path) -> std::io::Result<String> {
    Ok(pour(File::open(path)?, std::io::sink())?.1)
}

/// The first of the files that isn't what the manifest says; empty if there is none. One that can't be read isn't.
pub fn first_damaged(root: &Path, files: &[PayloadFile]) -> String {
    let is_whole = |file: &&PayloadFile| {
        sha256(&root.join(file.path.trim_start_matches('/'))).is_ok_and(|digest| digest == file.sha256)
    };
    files.iter().find(|file| !is_whole(file)).map(|file| file.path.clone()).unwrap_or_default()
}

/// Removes every unpacked version that isn't what its own list says; k3s unpacks it again.
///
/// # Errors
/// When one can't be removed.
pub fn verify_unpacked(folder: &Path) -> Result<Changed, FirstbootError> {
    let mut changed = Changed::No;
    for name in names_in(folder) {
        let version = folder.join(&name);
        // `current` and `previous` are links, `cni` holds links; what was being unpacked k3s begins anew.
        let is_version = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_version || version.is_symlink() {
            continue;
        }
        if let Some(damaged) = first_differing(&version) {
            log::warn!("{}: {damaged} is damaged, k3s unpacks all of it again", version.display());
            durable::remove_tree(&version)?;
            durable::sync_folder(folder)?;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

fn first_differing(version: &Path) -> Option<String> {
    let list = version.join(SUMS);
    let Ok(text) = read_text(&list) else { return Some(SUMS.into()) };
    let below = list.parent().unwrap_or(version);
    let mut lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace)).peekable();
    if lines.peek().is_none() {
        return Some(SUMS.into());
    }
    lines.map(|(sum, path)| (sum, path.trim_start_matches([' ', '*']).trim_start_matches("./"))).find_map(
        |(sum, path)| (!sha256(&below.join(path)).is_ok_and(|digest| digest == sum)).then(|| path.to_string()),
    )
}

/// Looks at the container runtime's store as far as its index goes.
pub fn store(folder: &Path) -> Store {
    let index = folder.join(INDEX);
    if !index.exists() {
        return Store::Absent;
    }
    let mut head = vec![0; PAGES * PAGE];
    let read = File::open(&index).and_then(|mut file| {
        let mut filled = 0;
        while filled < head.len() {
            match file.read(&mut head[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    });
    match read {
        Ok(filled) if head[..filled].chunks(PAGE).any(is_meta) => Store::Whole,
        _ => Store::Damaged,
    }
}

/// Whether a page is a valid meta page (bbolt, internal/common: 16 bytes of header, then the meta, which ends with its
/// FNV-1a checksum).
fn is_meta(page: &[u8]) -> bool {
    const HEADER: usize = 16;
    const SUMMED: usize = 56;
    const MAGIC: u32 = 0xED0C_DAED;
    let Some(meta) = page.get(HEADER..HEADER + SUMMED + 8) else { return false };
    let (summed, sum) = meta.split_at(SUMMED);
    summed.starts_with(&MAGIC.to_le_bytes()) && sum == fnv1a(summed).to_le_bytes()
}

/// FNV-1a, 64 bits (IETF draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// What SQLite says is wrong with the database, or that the cluster's keys in it, which are this token's, don't open: no check
/// of SQLite's sees that, and k3s ends by it. Empty if nothing is wrong. That kine's rows are all there is another question,
/// which its revision answers.
pub fn damage(path: &Path, token: &str) -> String {
    match check::live(path, Depth::Quick, 0) {
        Ok(Err(flaw)) if flaw.is_damage() => flaw.to_string(),
        Ok(Err(_)) => String::new(),
        Ok(Ok(_)) => match prove_live(path, token) {
            Ok(Err(error @ TokenError::Damaged)) => error.to_string(),
            Ok(_) => String::new(),
            Err(error) => words(&error),
        },
        Err(error) => words(&error),
    }
}

/// Makes an empty database where k3s looks for its own.
///
/// # Errors
/// When it can't be made.
pub fn prepare_database(path: &Path, page_size: u32) -> Result<Changed, FirstbootError> {
    let folder = path.parent().unwrap_or(path);
    durable::make_folder(folder)?;
    // k3s makes both folders with these bits (pkg/server, pkg/cluster).
    for folder in [folder, folder.parent().unwrap_or(folder)] {
        durable::set_mode(folder, 0o700)?;
    }
    bakelite_datastore::prepare(path, page_size)?;
    Ok(Changed::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        durable::make_folder(path.parent().unwrap()).unwrap();
        durable::replace(path, bytes, 0o600).unwrap();
    }

    #[test]
    fn a_payload_file_that_differs_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, bytes: &[u8]| {
            write(&root.path().join(&path[1..]), bytes);
            let sha256 = sha256(&root.path().join(&path[1..])).unwrap();
            PayloadFile { path: path.into(), size: bytes.len() as u64, sha256, images: false }
        };
        let files = [file("/k3s", b"program"), file("/images.tar", &[7; 70_000])];
        assert_eq!(first_damaged(root.path(), &files), "");
        write(&root.path().join("images.tar"), &[7; 69_999]);
        assert_eq!(first_damaged(root.path(), &files), "/images.tar");
        durable::remove_file(root.path().join("k3s")).unwrap();
        assert_eq!(first_damaged(root.path(), &files), "/k3s");
    }

    #[test]
    fn an_unpacked_version_is_removed_only_if_it_differs_from_its_list() {
        let root = tempfile::tempdir().unwrap();
        let (whole, damaged, hollow) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        for version in [&whole, &damaged, &hollow] {
            let bin = root.path().join(version).join("bin");
            write(&bin.join("k3s"), b"program");
            write(&bin.join("aux/ip"), b"tool");
            let sum = |name: &str| sha256(&bin.join(name)).unwrap();
            let list = format!("{}  ./k3s\n{} *aux/ip\n", sum("k3s"), sum("aux/ip"));
            write(&bin.join(".sha256sums"), list.as_bytes());
        }
        write(&root.path().join(&damaged).join("bin/aux/ip"), b"");
        write(&root.path().join(&hollow).join("bin/.sha256sums"), b"");
        write(&root.path().join("cni/host-local"), b"not a version");
        std::os::unix::fs::symlink(&whole, root.path().join("current")).unwrap();
        assert_eq!(verify_unpacked(root.path()).unwrap(), Changed::Yes);
        assert_eq!(names_in(root.path()), [whole.as_str(), "cni", "current"]);
        assert_eq!(verify_unpacked(root.path()).unwrap(), Changed::No);
        assert_eq!(verify_unpacked(&root.path().join("nowhere")).unwrap(), Changed::No);
    }

    #[test]
    fn a_store_is_whole_as_long_as_one_of_its_meta_pages_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(store(root.path()), Store::Absent);
        let mut page = vec![0; PAGE];
        page[16..20].copy_from_slice(&0xED0C_DAEDu32.to_le_bytes());
        let sum = fnv1a(&page[16..72]);
        page[72..80].copy_from_slice(&sum.to_le_bytes());
        let index = root.path().join(INDEX);
        let cases: [(Vec<u8>, Store); 5] = [
            ([page.clone(), page.clone(), vec![0; PAGE]].concat(), Store::Whole),
            ([vec![0; PAGE], page.clone()].concat(), Store::Whole),
            (vec![0; 4 * PAGE], Store::Damaged),
            (page[..79].to_vec(), Store::Damaged),
            (Vec::new(), Store::Damaged),
        ];
        for (bytes, expected) in cases {
            write(&index, &bytes);
            assert_eq!(store(root.path()), expected);
        }
    }
}
