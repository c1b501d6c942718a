//! A bundle's deltas: what an older image has of a newer one's parts is copied on the machine, and only the rest is brought.
//!
//! Both are cut where their content says so (FastCDC), so that what has only moved is found again: in a squashfs a file's compressed
//! blocks are the same wherever they lie. What is brought is packed, which helps where it isn't yet, as in an initramfs. Each delta
//! is followed here as the machine follows it, before anything is signed; the same two inputs give the same bytes.

use super::{MakeError, Taken};
use crate::opened::Opened;
use crate::source::digest::{Hashing, Sha256};
use crate::write::fat::Window;
use bakelite_disk::delta::{Followed, Instruction, MAGIC};
use bakelite_spec::bundle::{APPS, Base, Bundle, DELTA, Delta, Part, ROOT, WINDOW};
use bakelite_spec::quantity::Size;
use bakelite_trust::bundle::{BundleError, places};
use bakelite_trust::keys::OwnerKeys;
use fastcdc::v2020::StreamCDC;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The average length of a piece in bytes; docs/update.md has what others give.
const AVERAGE: usize = 4 << 10;
/// zstd's level.
const LEVEL: i32 = 19;
/// A longer copy is two, as an instruction's length is a u32.
const MOST: u64 = 1 << 30;

/// A part's bytes, anywhere.
pub trait Content: Read + Seek {}
impl<T: Read + Seek> Content for T {}

/// What is older, and runs on the machines.
pub enum Older {
    /// An image.
    Image(Box<(Opened, Taken)>),
    /// A whole bundle, and where its parts begin.
    Bundle(File, Box<Bundle>, Vec<u64>),
}

impl Older {
    /// Opens an image or a bundle; `keys` have signed the bundle.
    ///
    /// # Errors
    /// When it can't be read, or is nothing that runs on machines.
    pub fn open(path: &Path, keys: &OwnerKeys) -> Result<Self, MakeError> {
        let problem = |problem: String| MakeError::Older { path: path.into(), problem };
        let file = File::open(path).map_err(|source| MakeError::Read { path: path.into(), source })?;
        match places(&[keys.owner_key()], &file) {
            Ok((bundle, _)) if bundle.kind == DELTA => Err(problem("it is a delta itself; give the whole one".into())),
            Ok((bundle, _)) if bundle.kind == APPS => Err(problem("it is a bundle of apps".into())),
            Ok((bundle, places)) => Ok(Self::Bundle(file, Box::new(bundle), places)),
            Err(BundleError::NotABundle(_)) => {
                let opened = Opened::new(path)?;
                let taken = Taken::of(&opened).map_err(problem)?;
                Ok(Self::Image(Box::new((opened, taken))))
            }
            Err(error) => Err(problem(error.to_string())),
        }
    }

    /// What it says of itself, as a bundle.
    pub fn bundle(&self) -> &Bundle {
        match self {
            Self::Image(image) => &image.1.bundle,
            Self::Bundle(_, bundle, _) => bundle,
        }
    }

    /// A part, and its bytes.
    fn part(&self, name: &str) -> Option<(&Part, Box<dyn Content + '_>)> {
        let number = self.bundle().parts.iter().position(|part| part.name == name)?;
        let part = &self.bundle().parts[number];
        Some(match self {
            Self::Image(image) => (part, image.1.open(&image.0, name)),
            Self::Bundle(file, _, places) => (part, Box::new(Window::new(file, places[number], part.size))),
        })
    }
}

/// What of a bundle comes as deltas.
pub struct Deltas {
    /// What they are against.
    pub base: Base,
    /// By the parts' names; a part that none makes smaller comes whole.
    of: BTreeMap<String, (Delta, File)>,
}

impl Deltas {
    /// Makes deltas of all parts of a bundle; `open` gives their content.
    ///
    /// # Errors
    /// When the older one is no base for it, or something can't be read or written.
    pub fn make<'a>(
        bundle: &Bundle,
        open: impl Fn(&str) -> Box<dyn Content + 'a>,
        older: &Older,
        path: &Path,
    ) -> Result<Self, MakeError> {
        let problem = |problem: String| MakeError::Older { path: path.into(), problem };
        let was = older.bundle();
        if was.image == bundle.image {
            return Err(problem("it is the same image".into()));
        }
        if (&was.board, &was.name) != (&bundle.board, &bundle.name) {
            return Err(problem(format!("it is {}, and no machine takes the new one in its place", was.words())));
        }
        let root = was.part(ROOT).ok_or_else(|| problem("it has no system".into()))?;
        let base = Base { image: was.image.clone(), version: was.version.clone(), sha256: root.sha256.clone() };
        let mut of = BTreeMap::new();
        for part in &bundle.parts {
            let Some((was, mut old)) = older.part(&part.name) else { continue };
            let failed = |source| MakeError::Delta { part: part.name.clone(), source };
            let mut known = HashMap::new();
            let sum = cut(&mut old, |at, bytes| {
                known.entry(*Sha256::of(bytes).bytes()).or_insert(at);
            });
            let sum = sum.map_err(failed)?;
            if sum != was.sha256 {
                return Err(problem(format!("its {} is damaged", part.name)));
            }
            let mut runs = Vec::new();
            let mut piece =
                |at, bytes: &[u8]| add(&mut runs, at, bytes.len() as u64, known.get(Sha256::of(bytes).bytes()));
            cut(open(&part.name), &mut piece).map_err(failed)?;
            let file = write(&runs, &mut *open(&part.name)).map_err(failed)?;
            let delta = proved(&file, old, was, part).map_err(failed)?;
            if delta.size < part.size {
                of.insert(part.name.clone(), (delta, file));
            }
        }
        Ok(Self { base, of })
    }

    /// The delta of a part, from its first byte on.
    pub fn open(&self, part: &str) -> Option<io::Result<&File>> {
        let mut file = &self.of.get(part)?.1;
        Some(file.rewind().map(|()| file))
    }

    /// A part as the archive has it.
    pub fn apply(&self, part: &Part) -> Part {
        Part { delta: self.of.get(&part.name).map(|(delta, _)| delta.clone()), ..part.clone() }
    }

    /// Whether the archive is less than half as long as with whole parts; the sentence where it isn't.
    pub fn save_half(&self, bundle: &Bundle) -> Result<(), String> {
        let whole: u64 = bundle.parts.iter().map(|part| part.size).sum();
        let rest: u64 = bundle.parts.iter().map(|part| self.apply(part).member().0).sum();
        if rest < whole / 2 {
            return Ok(());
        }
        let (rest, whole, base) = (Size(rest).human(), Size(whole).human(), self.base.words());
        Err(format!(
            "a delta against {base} would have {rest} of {whole}, which saves less than half: this is the whole bundle"
        ))
    }
}

/// Cuts a content into pieces, and gives each with its first byte; the sum of all.
fn cut(mut content: impl Content, mut piece: impl FnMut(u64, &[u8])) -> io::Result<String> {
    content.rewind()?;
    let mut hashing = Hashing::new(content);
    for found in StreamCDC::new(&mut hashing, AVERAGE / 4, AVERAGE, AVERAGE * 4) {
        let found = found?;
        piece(found.offset, &found.data);
    }
    Ok(hashing.finish().0.to_string())
}

/// A run of the new content.
struct Run {
    /// Where it is in the old one; `None` where it has to be brought.
    from: Option<u64>,
    /// Its first byte in the new one.
    at: u64,
    length: u64,
}

/// Adds a piece; what goes on where the last run ends becomes a part of that.
fn add(runs: &mut Vec<Run>, at: u64, length: u64, from: Option<&u64>) {
    let goes_on = |run: &&mut Run| match (run.from, from) {
        (None, None) => true,
        (Some(was), Some(from)) => was + run.length == *from,
        _ => false,
    };
    match runs.last_mut().filter(goes_on) {
        Some(run) => run.length += length,
        None => runs.push(Run { from: from.copied(), at, length }),
    }
}

/// Writes a delta into a nameless file.
fn write(runs: &[Run], new: &mut dyn Content) -> io::Result<File> {
    let mut output = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, tempfile::tempfile()?), LEVEL)?;
    output.window_log(WINDOW)?;
    output.write_all(MAGIC)?;
    for run in runs {
        let mut left = run.length;
        new.seek(SeekFrom::Start(run.at))?;
        while left > 0 {
            let most = left.min(MOST);
            let length = u32::try_from(most).map_err(io::Error::other)?;
            let done = run.length - left;
            let instruction = match run.from {
                Some(from) => Instruction::Copy { at: from + done, length },
                None => Instruction::Insert { length },
            };
            output.write_all(&instruction.encode())?;
            if run.from.is_none() {
                io::copy(&mut (&mut *new).take(most), &mut output)?;
            }
            left -= most;
        }
    }
    Ok(output.finish()?.into_inner()?)
}

/// What a delta is, once it was followed and has given the part.
fn proved(mut file: &File, old: impl Content, was: &Part, part: &Part) -> io::Result<Delta> {
    let sum = |input: &mut dyn Read| {
        let mut hashing = Hashing::new(input);
        io::copy(&mut hashing, &mut io::sink())?;
        Ok::<_, io::Error>(hashing.finish())
    };
    file.rewind()?;
    let (given, _) = sum(&mut Followed::new(unpacked(file)?, old, was.size, part.size)?)?;
    if given.to_string() != part.sha256 {
        return Err(io::Error::other("it doesn't give what it was made for"));
    }
    file.rewind()?;
    let (sha256, size) = sum(&mut file)?;
    Ok(Delta { size, sha256: sha256.to_string() })
}

/// What is in a packed delta, for whoever holds no more of it than a machine does.
fn unpacked(file: &File) -> io::Result<impl Read + '_> {
    let mut unpacked = zstd::Decoder::new(file)?;
    unpacked.window_log_max(WINDOW)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests;
