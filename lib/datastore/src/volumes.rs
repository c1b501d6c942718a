//! Volumes: the data of a local-path claim as one tar in a set, and back.
//!
//! Packed while pods may be writing: each file is what it was when its turn came, and the manifest says so. A tar holds one
//! folder, named as local-path names it; only files, folders and symbolic links go in and come out. Sets are authentic, but
//! a name that leads elsewhere is refused all the same.

use crate::set::{SetError, on};
use bakelite_sys::{durable, mount, names_in};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Component, Path};
use tar::{Builder, EntryType, Header, HeaderMode};

/// A set's folder of volumes: `volumes/<namespace>/<claim>.tar`.
pub const MEMBERS: &str = "volumes";
/// Where local-path keeps volumes, below k3s's folder; and where they are spread out in a staged set.
pub const STORAGE: &str = "storage";
const ENDING: &str = ".tar";

/// The path in a set of a claim `namespace/name`.
pub fn member(claim: &str) -> String {
    format!("{MEMBERS}/{claim}{ENDING}")
}

/// Bytes of all files in a folder, as a tar has them.
pub fn size(folder: &Path) -> u64 {
    const BLOCK: u64 = 512;
    names_in(folder)
        .iter()
        .filter_map(|name| std::fs::symlink_metadata(folder.join(name)).ok().map(|meta| (folder.join(name), meta)))
        .map(
            |(path, meta)| if meta.is_dir() { BLOCK + size(&path) } else { BLOCK + meta.len().next_multiple_of(BLOCK) },
        )
        .sum()
}

/// Packs a volume's folder into a file.
///
/// # Errors
/// When something can't be read or written. A file that goes meanwhile is left out.
pub fn pack(folder: &Path, to: &Path) -> Result<(), SetError> {
    let name = folder.file_name().unwrap_or_default();
    let mut tar = Builder::new(io::BufWriter::with_capacity(1 << 18, durable::create_private(to)?));
    add(&mut tar, folder, Path::new(name)).map_err(on("packing", folder))?;
    tar.into_inner().and_then(|mut output| output.flush()).map_err(on("writing", to))
}

fn add(tar: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(&meta, HeaderMode::Complete);
    if meta.is_dir() {
        header.set_size(0);
        tar.append_data(&mut header, name, io::empty())?;
        for child in std::fs::read_dir(path)? {
            let child = child?.file_name();
            add(tar, &path.join(&child), &name.join(&child))?;
        }
    } else if meta.is_symlink() {
        header.set_size(0);
        tar.append_link(&mut header, name, std::fs::read_link(path)?)?;
    } else if meta.is_file() {
        add_file(tar, path, name, &meta, header)?;
    }
    Ok(())
}

/// A file that grows or shrinks meanwhile has the length that it had at first.
fn add_file(
    tar: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    meta: &Metadata,
    mut header: Header,
) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    header.set_size(meta.len());
    tar.append_data(&mut header, name, file.take(meta.len()).chain(io::repeat(0)).take(meta.len()))
}

/// Spreads the volumes of an unpacked set out below [`STORAGE`] in its folder, durably, in place of their tars.
///
/// # Errors
/// When one isn't as [`pack`] makes it, or there is no room.
pub fn spread(staged: &Path) -> Result<(), SetError> {
    let members = staged.join(MEMBERS);
    for namespace in names_in(&members) {
        for name in names_in(members.join(&namespace)).into_iter().filter(|name| name.ends_with(ENDING)) {
            let tar = members.join(&namespace).join(&name);
            let needed = tar.metadata().map_err(on("reading", &tar))?.len();
            let free = mount::free(staged);
            if needed > free {
                return Err(SetError::NoRoom { path: staged.into(), free, needed });
            }
            unpack(&tar, &staged.join(STORAGE), &format!("_{namespace}_{}", name.trim_end_matches(ENDING)))?;
        }
    }
    durable::remove_tree(&members)?;
    Ok(durable::sync_file_system(staged)?)
}

/// Unpacks one tar, whose only folder has a name that ends as it has to.
fn unpack(path: &Path, storage: &Path, ending: &str) -> Result<(), SetError> {
    let refuse = |what| SetError::Member { path: path.display().to_string(), what };
    let reading = || on("unpacking", path);
    durable::make_folder(storage)?;
    let mut archive = tar::Archive::new(File::open(path).map_err(reading())?);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    for entry in archive.entries().map_err(reading())? {
        let mut entry = entry.map_err(reading())?;
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink) {
            return Err(refuse("there is something else in it than files, folders and links"));
        }
        let name = entry.path().map_err(reading())?.into_owned();
        let top = match name.components().next() {
            Some(Component::Normal(top)) => top.to_string_lossy().into_owned(),
            _ => return Err(refuse("a name in it leads elsewhere")),
        };
        if !top.starts_with("pvc-") || !top.ends_with(ending) {
            return Err(refuse("it is another volume's"));
        }
        // tar itself refuses what would come to lie outside, and what goes through a link to there.
        if !entry.unpack_in(storage).map_err(reading())? {
            return Err(refuse("a name in it leads elsewhere"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const FOLDER: &str = "pvc-1b2c_shop_till";

    fn volume(at: &Path) {
        let folder = at.join(FOLDER);
        durable::make_folder(folder.join("log/old")).unwrap();
        durable::replace(folder.join("till.db"), b"sales", 0o640).unwrap();
        durable::replace(folder.join("log/old/empty"), b"", 0o600).unwrap();
        durable::replace(folder.join(format!("log/{}", "long".repeat(60))), b"x", 0o600).unwrap();
        symlink("till.db", folder.join("current")).unwrap();
        durable::set_mode(&folder, 0o777).unwrap();
    }

    fn staged(at: &Path, tar: impl FnOnce(&Path)) -> std::path::PathBuf {
        let staged = at.join("staged");
        let path = staged.join(member("shop/till"));
        durable::make_folder(path.parent().unwrap()).unwrap();
        tar(&path);
        staged
    }

    #[test]
    fn a_volume_comes_back_with_its_modes_links_and_long_names() {
        let folder = tempfile::tempdir().unwrap();
        volume(folder.path());
        let from = folder.path().join(FOLDER);
        let staged = staged(folder.path(), |path| {
            pack(&from, path).unwrap();
            assert!(path.metadata().unwrap().len() <= size(&from) + 8192);
        });
        spread(&staged).unwrap();
        assert_eq!(names_in(&staged), [STORAGE]);
        let back = staged.join(STORAGE).join(FOLDER);
        assert_eq!(std::fs::read(back.join("current")).unwrap(), b"sales");
        assert!(back.join("current").is_symlink());
        let mode = |path: &str| back.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode("till.db"), mode("log/old/empty")), (0o777, 0o640, 0o600));
        assert_eq!(names_in(back.join("log")).len(), 2);
    }

    #[test]
    fn what_leads_elsewhere_or_is_no_file_is_refused() {
        let entry = |kind: EntryType, name: &str, link: &str| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            header.set_cksum();
            header
        };
        let good = format!("{FOLDER}/x");
        for (kind, name, link) in [
            (EntryType::Regular, "../x", ""),
            (EntryType::Regular, "/etc/x", ""),
            (EntryType::Regular, "pvc-1_shop_other/x", ""),
            (EntryType::Regular, &format!("{FOLDER}/../../x"), ""),
            (EntryType::Link, &good, "/etc/passwd"),
            (EntryType::Char, &good, ""),
            (EntryType::Fifo, &good, ""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let staged = staged(folder.path(), |path| {
                let mut tar = Builder::new(File::create(path).unwrap());
                tar.append(&entry(kind, name, link), io::empty()).unwrap();
                tar.finish().unwrap();
            });
            assert!(spread(&staged).is_err(), "{name}");
            assert!(!folder.path().join("x").exists());
        }
        // Through a link that was unpacked before.
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        durable::make_folder(&out).unwrap();
        let staged = staged(folder.path(), |path| {
            let mut tar = Builder::new(File::create(path).unwrap());
            tar.append(&entry(EntryType::Symlink, &good, out.to_str().unwrap()), io::empty()).unwrap();
            tar.append(&entry(EntryType::Regular, &format!("{good}/y"), ""), io::empty()).unwrap();
            tar.finish().unwrap();
        });
        assert!(spread(&staged).is_err());
        assert_eq!(names_in(&out), Vec::<String>::new());
    }
}
