//! What an image says of itself: its manifest, and the kernel, initramfs and options that its firmware would start: of slot A's
//! loader entry, or what the model of a Raspberry Pi's firmware names.
//!
//! Everything is read from the finished image, as firmware would read it, so that a machine is booted as what it was
//! baked for and not as what some file beside it says. The image is opened for reading only.

use crate::error::{VmError, at_file};
use crate::tree;
use bakelite_disk::cpio;
use bakelite_disk::table::{Entry, Table};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{Role, SECTOR, Scheme};
use bakelite_spec::loader_entry::STICK;
use bakelite_spec::manifest::Manifest;
use bakelite_spec::pi::{self, COMMIT, Commit, INITRAMFS, TRY_COMMIT, config_txt::Files, firmware, models};
use fatfs::{FileSystem, FsOptions};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The largest file that is taken out of a boot partition into memory.
const FILE_LIMIT: u64 = 512 << 20;

/// What is compressed by zstd begins with this (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What is in an image.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The manifest baked into slot A's initramfs.
    pub manifest: Manifest,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initramfs: Vec<u8>,
    /// The kernel's options.
    pub options: String,
    /// The device tree, where firmware takes one from the medium, with what QEMU's machine has otherwise.
    pub device_tree: Option<Vec<u8>>,
    /// Whether it is a recovery stick, and no medium that a machine lives on.
    pub is_stick: bool,
}

/// The partition of a role on a medium.
///
/// # Errors
/// When the medium can't be read, or there is no such partition.
pub fn partition(path: &Path, role: Role) -> Result<Entry, VmError> {
    let found = table(path)?.role(role).map(|(_, entry)| entry.clone());
    found.ok_or_else(|| VmError::NotAnImage { path: path.into(), problem: format!("no partition {}", role.label()) })
}

fn table(path: &Path) -> Result<Table, VmError> {
    let mut file = File::open(path).map_err(at_file("opening", path))?;
    let length = file.metadata().map_err(at_file("looking at", path))?.len();
    let mut start = [0; 4];
    if file.read_exact(&mut start).is_ok() && start == ZSTD {
        return Err(VmError::Compressed(path.into()));
    }
    Table::read(&mut file, length / SECTOR).map_err(|source| VmError::Table { path: path.into(), source })
}

/// A loader entry as firmware finds it on a boot partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderEntry {
    /// Its file's name.
    pub name: String,
    /// Its text; what can't be read is empty.
    pub text: String,
    /// The SHA-256 in hexadecimal digits of the kernel and of the initramfs that it names, where both are there.
    pub files: Option<[String; 2]>,
}

/// The loader entries of a boot partition, which is a part of a file.
///
/// # Errors
/// When the boot partition can't be read at all.
pub fn loader_entries(path: &Path, start: u64, length: u64) -> Result<Vec<LoaderEntry>, VmError> {
    let volume = volume(path, start, length)?;
    let root = volume.root_dir();
    let problem = |error: io::Error| VmError::NotAnImage {
        path: path.into(),
        problem: format!("its boot loader's entries: {error}"),
    };
    let names = root.open_dir("loader/entries").map_err(problem)?;
    let names = names.iter().filter_map(|entry| Some(entry.ok()?.file_name())).filter(|name| name.ends_with(".conf"));
    let entry = |name: String| {
        let mut bytes = Vec::new();
        let file = root.open_file(&format!("loader/entries/{name}"));
        let _ = file.and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let sum_of = |key: &str| {
            let mut file = root.open_file(loader_field(&text, key)?.trim_start_matches('/')).ok()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).ok()?;
            Some(hexadecimal(Sha256::digest(&bytes)))
        };
        let files = sum_of("linux").and_then(|kernel| Some([kernel, sum_of("initrd")?]));
        LoaderEntry { name, text, files }
    };
    Ok(names.map(entry).collect())
}

/// Reads an image.
///
/// # Errors
/// When it can't be read, or isn't one of ours.
pub fn read(path: &Path) -> Result<Contents, VmError> {
    read_as(path, false)
}

/// The same of a medium that a Raspberry Pi is restarted from, whose firmware may have been told to try.
///
/// # Errors
/// When it can't be read, or isn't one of ours.
pub fn read_as(path: &Path, tryboot: bool) -> Result<Contents, VmError> {
    let problem = |problem: String| VmError::NotAnImage { path: path.into(), problem };
    let boot = partition(path, Role::Boot)?;
    let volume = Volume(volume(path, boot.start(), boot.length())?);
    let get = |name: &str| volume.get(name).map_err(|error| problem(format!("{name} on its boot partition: {error}")));
    if table(path)?.scheme == Scheme::Mbr {
        return read_pi(&volume, tryboot, &get, &problem);
    }
    let root = volume.0.root_dir();
    let is_stick = table(path)?.role(Role::SystemA).is_none();
    let name = if is_stick { Some(STICK.to_string()) } else { entry_of_slot_a(&root) };
    let name = name.ok_or_else(|| problem("it has no loader entry of slot a".into()))?;
    let entry = String::from_utf8_lossy(&get(&format!("loader/entries/{name}"))?).into_owned();
    let field = |key: &str| loader_field(&entry, key).ok_or_else(|| problem(format!("{name} has no `{key}`")));
    let (kernel, initramfs) = (get(field("linux")?)?, get(field("initrd")?)?);
    let manifest = manifest(&initramfs).map_err(problem)?;
    let options = field("options")?.to_string();
    Ok(Contents { manifest, kernel, initramfs, options, device_tree: None, is_stick })
}

fn manifest(initramfs: &[u8]) -> Result<Manifest, String> {
    let baked = cpio::last(initramfs, "bakelite/manifest.json").ok_or("its initramfs has no bakelite/manifest.json")?;
    serde_json::from_slice(baked).map_err(|error| format!("its manifest: {error}"))
}

/// What the firmware of the model that QEMU shows would start.
fn read_pi(
    volume: &Volume,
    tryboot: bool,
    get: &dyn Fn(&str) -> Result<Vec<u8>, VmError>,
    problem: &dyn Fn(String) -> VmError,
) -> Result<Contents, VmError> {
    let name = if tryboot { TRY_COMMIT } else { COMMIT };
    let commit = volume.text(name).and_then(|text| Commit::parse(&text));
    let commit = commit.ok_or_else(|| problem(format!("its {name} names nothing that could be started")))?;
    let manifest = manifest(&get(&format!("{}{INITRAMFS}", pi::folder(&commit.slot)))?).map_err(problem)?;
    let model = manifest.board.qemu.model.as_deref().and_then(models::find);
    let model = model.ok_or_else(|| VmError::Unsupported("its board has no `qemu.model`".into()))?;
    let start = firmware::start(model, volume, tryboot);
    if !start.problems.is_empty() {
        return Err(problem(format!("on a {}: {}", model.title, start.problems.join("; "))));
    }
    let loads = start.loads;
    let optional = |path: &Option<String>| path.as_deref().map(get).transpose();
    let mut initramfs = Vec::new();
    for path in &loads.initramfs {
        initramfs.extend(get(path)?);
    }
    let options = optional(&loads.cmdline)?.unwrap_or_default();
    let changes = &manifest.board.qemu.device_tree;
    let device_tree = optional(&loads.device_tree)?;
    let device_tree = device_tree.map(|tree| tree::changed(&tree, changes).map_err(problem)).transpose()?;
    Ok(Contents {
        manifest,
        kernel: get(&loads.kernel)?,
        initramfs,
        options: String::from_utf8_lossy(&options).trim().into(),
        device_tree,
        is_stick: false,
    })
}

/// A boot partition's files.
struct Volume(FileSystem<Window>);

impl Volume {
    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.0.root_dir().open_file(name.trim_start_matches('/'))?;
        file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Files for Volume {
    fn has(&self, path: &str) -> bool {
        self.0.root_dir().open_file(path).is_ok()
    }

    fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.get(path).ok()?).into_owned())
    }
}

/// The boot partition's file system.
fn volume(path: &Path, start: u64, length: u64) -> Result<FileSystem<Window>, VmError> {
    let file = File::open(path).map_err(at_file("opening", path))?;
    let window = Window { file, start, length, at: 0 };
    let problem = |error| VmError::NotAnImage { path: path.into(), problem: format!("its boot partition: {error}") };
    FileSystem::new(window, FsOptions::new()).map_err(problem)
}

/// The loader entry of slot A, whatever its counter has come to.
fn entry_of_slot_a(root: &fatfs::Dir<'_, Window>) -> Option<String> {
    let names = root.open_dir("loader/entries").ok()?.iter().filter_map(|entry| Some(entry.ok()?.file_name()));
    names.into_iter().find(|name| {
        let rest = name.strip_prefix("bakelite-a").unwrap_or_default();
        rest == ".conf" || (rest.starts_with('+') && rest.ends_with(".conf"))
    })
}

/// A field of a loader entry (UAPI boot loader specification, type 1).
fn loader_field<'a>(entry: &'a str, key: &str) -> Option<&'a str> {
    entry.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::trim))
}

/// A part of a file that looks like a whole one, for reading only.
struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let count = self.file.read(&mut buffer[..room])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window {
    // fatfs asks for a writer even where it only reads.
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bakelite_disk::cpio::archive;
    use bakelite_spec::layout;
    use bakelite_spec::quantity::Size;
    use fatfs::{FatType, FormatVolumeOptions};
    use std::io::Cursor;

    const MANIFEST: &str = r#"{"format":1,"version":"0.1.0","image":"0123456789abcdef","time":1763719271,
        "board-name":"x","board":{"description":"x","arch":"x86_64","boot":{"flow":"uefi"},"kernel":{"package":"k"},
        "packages":[],"modules":{"root":[],"initramfs":[]},"cmdline":[],"console":{"shell":"ttyS0","events":"ttyS1"},
        "watchdog":60,"qemu":{"machine":"q35","cpu":"max"},"defaults":{}},
        "system":{"length":4096,"sha256":"00","kernel":"6.12"},
        "payload":{"kind":"rehearsal","version":"","program":"/x","files":[]}}"#;

    /// An image with partitions, a FAT and a loader entry, and no systems in it.
    pub fn made_up(path: &Path, kernel: &[u8], entry_name: &str) {
        let fat = 48u64 << 20;
        let mut volume = Cursor::new(vec![0u8; fat as usize]);
        let format = FormatVolumeOptions::new().bytes_per_cluster(512).fat_type(FatType::Fat32);
        fatfs::format_volume(&mut volume, format).unwrap();
        {
            let volume = FileSystem::new(&mut volume, FsOptions::new()).unwrap();
            let put = |name: &str, bytes: &[u8]| volume.root_dir().create_file(name).unwrap().write_all(bytes).unwrap();
            for folder in ["loader", "loader/entries", "bakelite", "bakelite/a"] {
                volume.root_dir().create_dir(folder).unwrap();
            }
            put(
                &format!("loader/entries/{entry_name}"),
                b"title x\nlinux /bakelite/a/vmlinuz\ninitrd\t/bakelite/a/initrd\noptions bakelite.slot=a quiet\n",
            );
            put("bakelite/a/vmlinuz", kernel);
            let mut initramfs = archive(&[("init", b"elf")]);
            initramfs.extend(archive(&[("bakelite/manifest.json", MANIFEST.as_bytes())]));
            put("bakelite/a/initrd", &initramfs);
        }
        let layout = layout::layout(layout::Scheme::Gpt, Size(1 << 20));
        let mut file = File::create(path).unwrap();
        file.set_len(layout.length).unwrap();
        file.seek(SeekFrom::Start(layout.partition(Role::Boot).unwrap().start)).unwrap();
        file.write_all(&volume.into_inner()).unwrap();
        let table = Table::of_layout(&layout);
        drop(file);
        table.write(&mut File::options().read(true).write(true).open(path).unwrap()).unwrap();
    }

    #[test]
    fn an_image_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.img");
        for entry in ["bakelite-a+3.conf", "bakelite-a+2-1.conf", "bakelite-a.conf"] {
            made_up(&path, b"kernel", entry);
            let contents = read(&path).unwrap();
            assert_eq!(
                (contents.kernel.as_slice(), contents.options.as_str()),
                (&b"kernel"[..], "bakelite.slot=a quiet")
            );
            assert_eq!(contents.manifest.board.qemu.machine.as_deref(), Some("q35"));
        }
        let boot = partition(&path, Role::Boot).unwrap();
        let entries = || loader_entries(&path, boot.start(), boot.length()).unwrap();
        let (name, sums) = (entries()[0].name.clone(), entries()[0].files.clone().unwrap());
        assert_eq!((name.as_str(), sums[0].clone()), ("bakelite-a.conf", hexadecimal(Sha256::digest(b"kernel"))));
        made_up(&path, b"another kernel", "bakelite-b.conf");
        let other = entries()[0].files.clone().unwrap();
        assert!(other[0] != sums[0] && other[1] == sums[1]);
        assert!(read(&path).unwrap_err().to_string().contains("no loader entry of slot a"));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.img");
        std::io::copy(&mut [0u8; 4096].as_slice(), &mut File::create(&path).unwrap()).unwrap();
        assert!(matches!(read(&path), Err(VmError::Table { .. })));
        let packed = folder.path().join("x.img.zst");
        File::create(&packed).unwrap().write_all(&[0x28, 0xb5, 0x2f, 0xfd, 4, 0, 1, 0, 0]).unwrap();
        assert!(read(&packed).unwrap_err().to_string().contains(&format!("zstd -d {}", packed.display())));
        assert!(matches!(read(&folder.path().join("absent")), Err(VmError::File { act: "opening", .. })));
    }
}
