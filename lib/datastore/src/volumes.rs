//! Volumes: the data of a local-path claim as one tar in a set, and back.
//!
//! Packed while pods may be writing: each file is what it was when its turn came, and the manifest says so. A tar holds one
//! folder, named as local-path names it; only files, folders and links go in and come out, with owners, modes, access lists
//! and other extended attributes. Sets are authentic, but a name that leads elsewhere is refused all the same.

use crate::set::{SetError, on};
use bakelite_sys::{SysError, durable, mount, names_in, tree};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use tar::{Builder, Entry, EntryType, Header, HeaderMode};

/// A set's folder of volumes: `volumes/<namespace>/<claim>.tar`.
pub const MEMBERS: &str = "volumes";
/// Where local-path keeps volumes, below k3s's folder; and where they are spread out in a staged set.
pub const STORAGE: &str = "storage";
const ENDING: &str = ".tar";
/// Extended attributes are records with this before their names, their bytes in base64 (libarchive, its pax format). GNU
/// tar's records have the bytes as they are, and the tar crate takes a newline among them for the end of a record.
const EXTENDED: &str = "LIBARCHIVE.xattr.";
/// Which of them belong to the data: a program's own, access lists, what a program may do. The rest is the machine's.
const KEPT: &[&str] = &["user.", "system.posix_acl_access", "system.posix_acl_default", "security.capability"];

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
    let tar = Builder::new(io::BufWriter::with_capacity(1 << 18, durable::create_private(to)?));
    let mut packer = Packer { tar, linked: BTreeMap::new() };
    packer.add(folder, Path::new(name)).map_err(on("packing", folder))?;
    packer.tar.into_inner().and_then(|mut output| output.flush()).map_err(on("writing", to))
}

/// A tar in the making.
struct Packer<W: Write> {
    tar: Builder<W>,
    /// The first name of each file that has several, by device and number.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn add(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let meta = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta?,
        };
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(&meta, HeaderMode::Complete);
        if meta.is_dir() {
            header.set_size(0);
            self.attributes(path)?;
            self.tar.append_data(&mut header, name, io::empty())?;
            for child in std::fs::read_dir(path)? {
                let child = child?.file_name();
                self.add(&path.join(&child), &name.join(&child))?;
            }
        } else if meta.is_symlink() {
            header.set_size(0);
            self.tar.append_link(&mut header, name, std::fs::read_link(path)?)?;
        } else if meta.is_file() {
            self.file(path, name, &meta, header)?;
        }
        Ok(())
    }

    /// A file that grows or shrinks meanwhile has the length that it had at first.
    fn file(&mut self, path: &Path, name: &Path, meta: &Metadata, mut header: Header) -> io::Result<()> {
        let number = (meta.dev(), meta.ino());
        if let Some(first) = self.linked.get(&number) {
            header.set_size(0);
            header.set_entry_type(EntryType::Link);
            return self.tar.append_link(&mut header, name, first);
        }
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        self.attributes(path)?;
        header.set_size(meta.len());
        let bytes = file.take(meta.len()).chain(io::repeat(0)).take(meta.len());
        self.tar.append_data(&mut header, name, bytes)?;
        if meta.nlink() > 1 {
            self.linked.insert(number, name.into());
        }
        Ok(())
    }

    /// The extended attributes of what comes next; none of what is gone by now.
    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let found = match tree::extended(path) {
            Ok(found) => found,
            Err(SysError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        let named = found.iter().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, &value[..])));
        let kept: Vec<(String, String)> = named
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (format!("{EXTENDED}{name}"), STANDARD_NO_PAD.encode(value)))
            .collect();
        // Without a record no header of records.
        if kept.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(kept.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }
}

fn is_kept(name: &str) -> bool {
    // Others would have to be written otherwise in a record.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b'%'));
    is_plain && KEPT.iter().any(|kept| if kept.ends_with('.') { name.starts_with(kept) } else { name == *kept })
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
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link) {
            return Err(refuse("there is something else in it than files, folders and links"));
        }
        let name = entry.path().map_err(reading())?.into_owned();
        let volume = top(&name).ok_or_else(|| refuse("a name in it leads elsewhere"))?;
        if !volume.starts_with("pvc-") || !volume.ends_with(ending) {
            return Err(refuse("it is another volume's"));
        }
        // A second name of a file is one of a file in the same volume.
        if kind == EntryType::Link {
            let first = entry.link_name().map_err(reading())?.unwrap_or_default().into_owned();
            if top(&first).as_ref() != Some(&volume) {
                return Err(refuse("a link in it leads elsewhere"));
            }
        }
        let attributes = attributes(&mut entry).map_err(reading())?;
        // tar itself refuses what would come to lie outside, and what goes through a link to there.
        if !entry.unpack_in(storage).map_err(reading())? {
            return Err(refuse("a name in it leads elsewhere"));
        }
        for (attribute, value) in attributes {
            tree::set_extended(&storage.join(&name), attribute.as_bytes(), &value)?;
        }
    }
    Ok(())
}

/// The first folder of a name that goes nowhere but down.
fn top(name: &Path) -> Option<String> {
    let mut parts = name.components();
    let Some(Component::Normal(top)) = parts.next() else { return None };
    parts.all(|part| matches!(part, Component::Normal(_))).then(|| top.to_string_lossy().into_owned())
}

/// The extended attributes of a file or folder that are kept.
fn attributes(entry: &mut Entry<'_, File>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let kind = entry.header().entry_type();
    let Some(records) = entry.pax_extensions()?.filter(|_| !matches!(kind, EntryType::Symlink | EntryType::Link))
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for record in records {
        let record = record?;
        let name = record.key().ok().and_then(|key| key.strip_prefix(EXTENDED));
        if let Some(name) = name.filter(|name| is_kept(name)) {
            let value = STANDARD_NO_PAD.decode(record.value_bytes()).map_err(io::Error::other)?;
            found.push((name.to_string(), value));
        }
    }
    Ok(found)
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

    /// What is kept beside a file's bytes, where the file system of the test can.
    fn give_attributes(folder: &Path) -> bool {
        let given = tree::set_extended(&folder.join("till.db"), b"user.till", b"\x00seven\n")
            .and_then(|()| tree::set_extended(&folder.join("log"), b"user.till", b"of a folder"));
        if let Err(error) = &given {
            eprintln!("SKIPPED: extended attributes: {}", bakelite_sys::words(error));
        }
        given.is_ok()
    }

    #[test]
    fn a_file_with_two_names_is_one_file_again_and_attributes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        volume(folder.path());
        let from = folder.path().join(FOLDER);
        std::fs::hard_link(from.join("till.db"), from.join("log/till-of-yesterday.db")).unwrap();
        let has_attributes = give_attributes(&from);
        let staged = staged(folder.path(), |path| pack(&from, path).unwrap());
        spread(&staged).unwrap();
        let back = staged.join(STORAGE).join(FOLDER);
        let number = |name: &str| back.join(name).metadata().unwrap().ino();
        assert_eq!(number("till.db"), number("log/till-of-yesterday.db"));
        assert_eq!(std::fs::read(back.join("log/till-of-yesterday.db")).unwrap(), b"sales");
        if has_attributes {
            for name in ["till.db", "log"] {
                assert_eq!(tree::extended(&back.join(name)).unwrap(), tree::extended(&from.join(name)).unwrap());
            }
            assert_eq!(tree::extended(&back.join("till.db")).unwrap()[&b"user.till"[..]], b"\x00seven\n");
        }
    }

    #[test]
    fn the_machines_own_attributes_are_no_datas() {
        for (name, kept) in [
            ("user.x", true),
            ("security.capability", true),
            ("system.posix_acl_default", true),
            ("trusted.overlay.opaque", false),
            ("security.selinux", false),
            ("security.capability2", false),
            ("user", false),
            ("user.x=y", false),
            ("user.x\n", false),
        ] {
            assert_eq!(is_kept(name), kept, "{name}");
        }
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
            (EntryType::Link, &good, "pvc-1_shop_other/x"),
            (EntryType::Link, &good, &format!("{FOLDER}/../../x")),
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
