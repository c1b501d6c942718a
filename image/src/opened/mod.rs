//! An image opened for looking, by lint and inspect: a file or a device, read-only. Everything in it is read once, and
//! what couldn't be read is kept as the reason, for the rules that need it.

pub mod fat;
mod metadata;

use crate::error::{BuildError, io_error};
use crate::unpack::xz::Span;
use crate::write::fat::Window;
use backhand::{FilesystemReader, InnerNode};
use bakelite_disk::cpio;
use bakelite_disk::footer::Footer;
use bakelite_disk::table::{Entry, Table};
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_spec::manifest::Manifest;
use bakelite_trust::recovery::{MANIFEST, SYSTEM};
use fat::Volume;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What was read, or why it couldn't be.
pub type Seen<T> = Result<T, String>;

/// The most of an initramfs that is looked at, in bytes.
const MOST_INITRAMFS: u64 = 256 << 20;
/// zstd's magic.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One member of an initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Kind and permissions.
    pub mode: u32,
    /// Its content, or a link's target.
    pub content: Vec<u8>,
}

/// The initramfs: what the last of its archives says of a path.
pub type Initramfs = BTreeMap<String, Member>;

/// An image that lint and inspect look at.
pub struct Opened {
    /// The image, or what its .zst unpacks to.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// The partition table.
    pub table: Seen<Table>,
    /// The boot partition.
    pub boot: Seen<Volume>,
    /// Slot A's initramfs.
    pub initramfs: Seen<Initramfs>,
    /// Slot A's manifest.
    pub manifest: Seen<Manifest>,
    /// Slot A's footer.
    pub footer: Seen<Footer>,
    /// Slot A's squashfs.
    pub system: Seen<FilesystemReader<'static>>,
}

impl Opened {
    /// Opens an image, a compressed one by unpacking it into a nameless temporary file.
    ///
    /// # Errors
    /// When the file or device itself can't be read.
    pub fn new(path: &Path) -> Result<Self, BuildError> {
        let reading = || io_error("reading", path);
        let mut file = File::open(path).map_err(reading())?;
        let mut magic = [0; 4];
        if file.read_exact_at(&mut magic, 0).is_ok() && magic == ZSTD {
            file = unpack(file).map_err(io_error("unpacking", path))?;
        }
        Self::of(file).map_err(reading())
    }

    /// Opens an image that isn't compressed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let table = Table::read(&mut &file, length / SECTOR).map_err(|error| error.to_string());
        let mut opened = Self {
            file,
            length,
            table,
            boot: Err("the boot partition wasn't found".into()),
            initramfs: Err("there is no boot partition to read it from".into()),
            manifest: Err("there is no initramfs to read it from".into()),
            footer: Err("slot A wasn't found".into()),
            system: Err("slot A wasn't found".into()),
        };
        opened.look();
        Ok(opened)
    }

    fn look(&mut self) {
        if let Some(boot) = self.partition(Role::Boot) {
            let volume = fat::read(&self.reader(&boot), boot.length()).map_err(|error| error.to_string());
            self.boot = volume;
        }
        if self.boot.is_ok() {
            self.initramfs = self.on_boot("bakelite/a/initrd").and_then(|bytes| read_cpio(&bytes));
        }
        if let Ok(members) = &self.initramfs {
            let member = members.get("bakelite/manifest.json").ok_or("the initramfs holds no bakelite/manifest.json");
            self.manifest = member
                .map_err(String::from)
                .and_then(|member| serde_json::from_slice(&member.content).map_err(|error| error.to_string()));
        }
        if self.is_stick() {
            self.system = self.place_on_boot(SYSTEM).and_then(|(start, length)| self.squashfs(start, length));
        }
        let Some(slot) = self.partition(Role::SystemA) else { return };
        self.footer = Footer::read(&mut &self.file, slot.start(), slot.length()).map_err(|error| error.to_string());
        self.system = self.squashfs(slot.start(), slot.length());
    }

    /// Whether it is a recovery stick: no medium that a machine lives on.
    pub fn is_stick(&self) -> bool {
        self.boot.as_ref().is_ok_and(|volume| volume.files.contains_key(MANIFEST))
    }

    fn squashfs(&self, start: u64, length: u64) -> Seen<FilesystemReader<'static>> {
        metadata::check(&|at, bytes: &mut [u8]| self.file.read_exact_at(bytes, start + at))?;
        let file = self.file.try_clone().map_err(|error| error.to_string())?;
        let window = Window::new(file, start, length);
        // The reader is a library's, and an image is anybody's.
        let read = || FilesystemReader::from_reader(BufReader::with_capacity(1 << 17, window));
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err("its tables make no sense".into()),
        }
    }

    /// The partition with a role's type.
    pub fn partition(&self, role: Role) -> Option<Entry> {
        self.table.as_ref().ok()?.role(role).map(|(_, entry)| entry.clone())
    }

    fn reader<'a>(&'a self, partition: &Entry) -> impl Fn(u64, &mut [u8]) -> io::Result<()> + 'a {
        let start = partition.start();
        move |at, bytes| self.file.read_exact_at(bytes, start + at)
    }

    /// A file of the boot partition.
    pub fn on_boot(&self, path: &str) -> Seen<Vec<u8>> {
        let volume = self.boot.as_ref().map_err(Clone::clone)?;
        let boot = self.partition(Role::Boot).ok_or("the boot partition wasn't found")?;
        if volume.files.get(path).is_some_and(|file| file.size > MOST_INITRAMFS) {
            return Err(format!("/{path} is larger than it may be"));
        }
        volume.content(&self.reader(&boot), path).map_err(|error| format!("/{path} of the boot partition: {error}"))
    }

    /// Where a file of the boot partition lies in the image, in one piece; its first byte and length.
    fn place_on_boot(&self, path: &str) -> Seen<(u64, u64)> {
        let volume = self.boot.as_ref().map_err(Clone::clone)?;
        let boot = self.partition(Role::Boot).ok_or("the boot partition wasn't found")?;
        let place = volume.place_of(path).ok_or_else(|| format!("/{path} isn't there in one piece"))?;
        Ok((boot.start() + place.0, place.1))
    }

    /// A file of the boot partition, however large, that lies there in one piece.
    pub fn file_on_boot(&self, path: &str) -> Seen<Span<'_>> {
        self.place_on_boot(path).map(|(at, length)| self.span(at, length))
    }

    /// Opens a part of the image.
    pub fn span(&self, at: u64, left: u64) -> Span<'_> {
        Span { file: &self.file, at, left }
    }

    /// A file of slot A's squashfs, by its path without a slash.
    pub fn on_system(&self, path: &str) -> Seen<Box<dyn Read + '_>> {
        let system = self.system.as_ref().map_err(Clone::clone)?;
        let wanted = Path::new("/").join(path.trim_start_matches('/'));
        match system.files().find(|node| node.fullpath == wanted).map(|node| &node.inner) {
            Some(InnerNode::File(file)) => {
                let opened = system.file(file).reader_checked().map_err(|error| error.to_string())?;
                Ok(Box::new(opened))
            }
            Some(_) => Err(format!("/{} is no file", path.trim_start_matches('/'))),
            None => Err(format!("/{} is not there", path.trim_start_matches('/'))),
        }
    }
}

fn unpack(file: File) -> io::Result<File> {
    let mut decoder = zstd::Decoder::new(file)?;
    let unpacked = tempfile::tempfile()?;
    let (mut buffer, mut at) = (vec![0; 1 << 20], 0u64);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match decoder.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        // Zeros stay a hole.
        if buffer[..filled].iter().any(|byte| *byte != 0) {
            unpacked.write_all_at(&buffer[..filled], at)?;
        }
        at += filled as u64;
        if filled < buffer.len() {
            unpacked.set_len(at)?;
            return Ok(unpacked);
        }
    }
}

/// Reads the cpio archives of an initramfs, one after the other.
pub fn read_cpio(bytes: &[u8]) -> Seen<Initramfs> {
    let members = cpio::members(bytes).ok_or("the initramfs is damaged")?;
    let named = |member: &cpio::Member<'_>| {
        (
            String::from_utf8_lossy(member.name).into_owned(),
            Member { mode: member.mode, content: member.content.to_vec() },
        )
    };
    Ok(members.iter().map(named).collect())
}

#[cfg(test)]
mod tests;
