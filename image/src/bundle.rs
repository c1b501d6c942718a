//! `bakelite bundle`: a built and proved image as one signed file that updates machines.
//!
//! What is in it is taken from the finished image, by the same reader that lint proves it with: slot A's squashfs, kernel,
//! initramfs with the settings, device trees, and the loader's entry. Nothing is stamped with the hour: the same image, key and
//! words give the same bytes. Must never write a private key, nor sign what isn't a whole image.

mod apps;
mod delta;
pub use apps::make_apps;

use crate::error::BuildError;
use crate::host::file::{self, FileError};
use crate::opened::Opened;
use crate::write::fat::Window;
use bakelite_spec::appliance::Appliance;
use bakelite_spec::board::{Flow, Tries};
use bakelite_spec::bundle::{Bundle, DELTA, DEVICE_TREE, FORMAT, INITRAMFS, KERNEL, Part, ROOT, SYSTEM};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layers::Effective;
use bakelite_spec::layout::Role;
use bakelite_spec::loader_entry::{EntryName, FOLDER};
use bakelite_spec::pi;
use bakelite_spec::update::is_version;
use bakelite_trust::bundle;
use bakelite_trust::keys::{KeyError, OwnerKeys};
use delta::{Content, Deltas, Older};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

/// Slot a's folder on the boot partition, where an image has its system.
const SLOT: &str = "bakelite/a/";

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Building the image.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The key file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The key file isn't one.
    #[error("{} is no key file: {source}; `bakelite new` makes one", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The image can't be taken apart.
    #[error("{} can't be made a bundle of: {problem}", path.display())]
    Image {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What machines run can't be made deltas against.
    #[error("{} is nothing to make a delta against: {problem}", path.display())]
    Older {
        /// Which.
        path: PathBuf,
        /// What is in the way.
        problem: String,
    },
    /// A delta can't be made.
    #[error("making a delta of {part}")]
    Delta {
        /// Of what.
        part: String,
        /// Why not.
        source: io::Error,
    },
    /// A version that is none.
    #[error("`{0}` is no version: one to four numbers with dots, such as 1.4.2")]
    Version(String),
    /// The output is there already.
    #[error("{} is there already; give --force to replace it, or another name", .0.display())]
    Exists(PathBuf),
    /// Writing and signing it.
    #[error(transparent)]
    Bundle(#[from] bundle::BundleError),
    /// The output can't be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// What is wanted besides the image.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The bundle to write.
    pub output: &'a Path,
    /// The owner's key file.
    pub key: &'a Path,
    /// The lowest version that it may take the place of; empty for any.
    pub after: &'a str,
    /// The highest version that it may take the place of; empty for any.
    pub until: &'a str,
    /// Of a system: an image or a whole bundle that the machines run; the bundle is a delta against it where that saves more than half.
    pub from: Option<&'a Path>,
    /// Of apps: objects that k3s may delete with all that is in them.
    pub drops: &'a [String],
    /// Replace a bundle that is there.
    pub force: bool,
}

impl Wanted<'_> {
    /// Refuses what can be known to fail before anything is built; the keys.
    ///
    /// # Errors
    /// When the output is there, a version is none, the key file isn't one, or no delta can be against what was named.
    pub fn check(&self) -> Result<OwnerKeys, MakeError> {
        if self.output.exists() && !self.force {
            return Err(MakeError::Exists(self.output.into()));
        }
        if let Some(wrong) = [self.after, self.until].into_iter().find(|text| !text.is_empty() && !is_version(text)) {
            return Err(MakeError::Version(wrong.into()));
        }
        let text =
            std::fs::read_to_string(self.key).map_err(|source| MakeError::Read { path: self.key.into(), source })?;
        let keys = OwnerKeys::parse(&text).map_err(|source| MakeError::Key { path: self.key.into(), source })?;
        if let Some(from) = self.from {
            Older::open(from, &keys)?;
        }
        Ok(keys)
    }
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// What it says of itself.
    pub bundle: Bundle,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// Makes a bundle of an image.
///
/// # Errors
/// When the image isn't whole or can't be updated to, or the output can't be written; an older bundle is then as it was.
pub fn make(image: &Path, wanted: &Wanted<'_>) -> Result<Made, MakeError> {
    let keys = wanted.check()?;
    let opened = Opened::new(image)?;
    let problem = |problem: String| MakeError::Image { path: image.into(), problem };
    let taken = Taken::of(&opened).map_err(problem)?;
    let mut bundle = Bundle { after: wanted.after.into(), until: wanted.until.into(), ..taken.bundle.clone() };
    let mut notes: Vec<String> = note_key(&taken.owners, &keys).into_iter().collect();
    let mut deltas = None;
    if let Some(from) = wanted.from {
        let older = Older::open(from, &keys)?;
        let made = Deltas::make(&bundle, |name| taken.open(&opened, name), &older, from)?;
        match made.save_half(&bundle) {
            Ok(()) => {
                let parts = bundle.parts.iter().map(|part| made.apply(part)).collect();
                let base = Some(made.base.clone());
                bundle = Bundle { kind: DELTA.into(), base, parts, ..bundle };
                deltas = Some(made);
            }
            Err(why) => notes.push(why),
        }
    }
    let mut temporary = file::begin_as(wanted.output)?;
    let writing = |source| bundle::BundleError::Stream { act: "writing", source };
    let output = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    let open = |part: &Part| match deltas.as_ref().and_then(|deltas| deltas.open(&part.name)) {
        Some(delta) => delta.map(|delta| Box::new(delta) as Box<dyn Read + '_>),
        None => Ok(Box::new(taken.open(&opened, &part.name)) as Box<dyn Read + '_>),
    };
    bundle::write(&bundle, &keys, open, output)?.flush().map_err(writing)?;
    file::publish(temporary, wanted.output)?;
    if bundle.version.is_empty() {
        notes.push(
            "the appliance has no `image.version`: only its packages' dates tell which of two bundles is older".into(),
        );
    }
    Ok(Made { bundle, notes })
}

/// What is to be said of the key.
fn note_key(owners: &[String], keys: &OwnerKeys) -> Option<String> {
    let is_known = owners.contains(&keys.owner_key());
    (!is_known).then(|| {
        "this key isn't in the `owner.keys` of what is in the bundle: machines that take it take no further one signed by it"
            .into()
    })
}

/// What of an image goes into a bundle.
struct Taken {
    bundle: Bundle,
    /// By their parts' names.
    boot: BTreeMap<String, Vec<u8>>,
    root: (u64, u64),
    owners: Vec<String>,
}

impl Taken {
    fn of(opened: &Opened) -> Result<Self, String> {
        let manifest = opened.manifest.clone()?;
        let board = &manifest.board;
        let entry = match (board.tries(), board.boot.flow) {
            (Some(Tries::Counted), _) => loader_entry(opened)?,
            (Some(Tries::Once), _) => generation(opened)?,
            (None, Flow::RaspberryPi) => {
                return Err(format!(
                    "the kernel of {} doesn't tell the firmware to try (`kernel.tryboot` of the board), and an update without a way back isn't made",
                    board.kernel.package
                ));
            }
            (None, _) => {
                let name = &manifest.board_name;
                return Err(format!("what starts {name} counts no tries, and an update without a way back isn't made"));
            }
        };
        let trees = device_trees(opened)?;
        let names = [KERNEL, INITRAMFS].into_iter().map(String::from).chain(trees);
        let boot = names.map(|name| {
            let content = opened.on_boot(&format!("{SLOT}{name}"))?;
            Ok::<_, String>((name, content))
        });
        let boot: Vec<(String, Vec<u8>)> = boot.collect::<Result<_, _>>()?;
        let footer = opened.footer.clone()?;
        let slot = opened.partition(Role::SystemA).ok_or("it has no slot a")?;
        let settings = opened.initramfs.as_ref().map_err(Clone::clone)?.get("bakelite/appliance.json");
        let settings = settings.ok_or("its initramfs holds no bakelite/appliance.json")?;
        let effective: Effective = serde_json::from_slice(&settings.content).map_err(|error| error.to_string())?;
        let appliance = Appliance::from_values(&effective.values).map_err(|error| error.to_string())?;
        let payload = serde_json::to_value(manifest.payload.kind).unwrap_or_default();
        let part = |name: &str, content: &[u8]| Part {
            name: name.into(),
            size: content.len() as u64,
            sha256: hexadecimal(Sha256::digest(content)),
            ..Part::default()
        };
        let sha256 = hexadecimal(footer.sha256);
        let root = Part { name: ROOT.into(), size: footer.length, sha256, ..Part::default() };
        let bundle = Bundle {
            format: FORMAT,
            kind: SYSTEM.into(),
            name: appliance.image.name.unwrap_or_default(),
            version: appliance.image.version.unwrap_or_default(),
            image: manifest.image,
            time: manifest.time,
            bakelite: manifest.version,
            board: manifest.board_name,
            payload: payload.as_str().unwrap_or_default().into(),
            k3s: manifest.payload.version,
            after: String::new(),
            until: String::new(),
            drops: Vec::new(),
            holds: None,
            entry,
            base: None,
            parts: boot.iter().map(|(name, content)| part(name, content)).chain([root]).collect(),
        };
        let root = (slot.start(), footer.length);
        Ok(Self { bundle, boot: boot.into_iter().collect(), root, owners: appliance.owner.keys })
    }

    fn open<'a>(&'a self, opened: &'a Opened, part: &str) -> Box<dyn Content + 'a> {
        match self.boot.get(part) {
            Some(content) => Box::new(Cursor::new(content)),
            None => Box::new(Window::new(&opened.file, self.root.0, self.root.1)),
        }
    }
}

/// systemd-boot's entry of slot a.
fn loader_entry(opened: &Opened) -> Result<String, String> {
    let volume = opened.boot.as_ref().map_err(Clone::clone)?;
    let is_entry = |path: &&String| {
        let name = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
        name.and_then(EntryName::parse).is_some_and(|name| name.slot == "a" && name.generation == 1)
    };
    let entry = volume.files.keys().find(is_entry).ok_or("it has no entry of the boot loader for slot a")?;
    String::from_utf8(opened.on_boot(entry)?).map_err(|error| error.to_string())
}

/// A Raspberry Pi's first generation of slot a, as an entry of a loader.
fn generation(opened: &Opened) -> Result<String, String> {
    let text = |name: String| {
        let bytes = opened.on_boot(&format!("{SLOT}{name}"))?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    };
    let volume = opened.boot.as_ref().map_err(Clone::clone)?;
    let set = pi::set(1);
    let set = if volume.files.contains_key(&format!("{SLOT}{set}")) { text(set)? } else { String::new() };
    Ok(pi::entry(&text(pi::arguments(1))?, &set).render())
}

/// The device trees in slot a's folder, by name.
fn device_trees(opened: &Opened) -> Result<Vec<String>, String> {
    let volume = opened.boot.as_ref().map_err(Clone::clone)?;
    let names = volume.files.keys().filter_map(|path| path.strip_prefix(SLOT));
    Ok(names.filter(|name| name.ends_with(DEVICE_TREE) && Bundle::is_boot_file(name)).map(String::from).collect())
}
