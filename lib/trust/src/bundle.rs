//! Bundles: an update as one file, a tar of a signed manifest and its parts in a fixed order.
//!
//! It is read as a stream, once, from whatever brings it: a stick, ssh, a file. The manifest and its signature come first,
//! and nothing else is touched before one of the owners has been proved to have signed; each part is hashed as it passes
//! by, and whoever takes parts makes none of them count before all were whole. `tar tf` lists one. Never unpacks by itself.

use crate::document::{self, DocumentError};
use crate::keys::OwnerKeys;
use crate::signature::{self, SignatureError};
use bakelite_spec::bundle::{APPS, Bundle, DELTA, FORMAT, Part, SYSTEM};
use bakelite_spec::hexadecimal::hexadecimal;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, Write};

/// The kind of its signature.
const KIND: &str = "bundle";
/// The manifest's name in the archive; its signature's has [`signature::ENDING`] behind it.
const MANIFEST: &str = "manifest.json";
/// A longer manifest is none of ours.
const LIMIT: u64 = 1 << 20;

/// Why a bundle isn't believed, or isn't whole.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Something else, or nothing.
    #[error("it is no bundle: {0}")]
    NotABundle(String),
    /// Who signed it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Made by a newer Bakelite.
    #[error("it has {0}, which a newer Bakelite reads; update in smaller steps")]
    Newer(String),
    /// Signed, and yet none.
    #[error("its manifest can't be read, although it is signed")]
    Malformed,
    /// It ends too early.
    #[error("it is cut off within {0}; copy it again")]
    Torn(String),
    /// A part isn't what was signed.
    #[error("its {0} isn't what was signed: it was damaged on its way, or changed; copy it again")]
    Differs(String),
    /// It can't be read or written.
    #[error("{act} the bundle")]
    Stream {
        /// What was done.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl From<DocumentError> for BundleError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Signature(error) => Self::Signature(error),
            DocumentError::Newer(format) => Self::Newer(format!("format {format}")),
            DocumentError::Malformed => Self::Malformed,
        }
    }
}

/// Writes a bundle: the same manifest and parts give the same bytes. `open` gives what the archive has of a part.
///
/// # Errors
/// When a part can't be read, isn't as the manifest has it, or the output can't be written.
pub fn write<'a, W: Write>(
    bundle: &Bundle,
    keys: &OwnerKeys,
    open: impl Fn(&Part) -> io::Result<Box<dyn Read + 'a>>,
    output: W,
) -> Result<W, BundleError> {
    let writing = |source| BundleError::Stream { act: "writing", source };
    let mut archive = tar::Builder::new(output);
    let (manifest, signed) = document::sign(bundle, KIND, keys);
    let mut add = |name: &str, size: u64, content: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, content).map_err(writing)
    };
    add(MANIFEST, manifest.len() as u64, &mut &manifest[..])?;
    add(&format!("{MANIFEST}{}", signature::ENDING), signed.len() as u64, &mut signed.as_bytes())?;
    for part in &bundle.parts {
        let (size, _) = part.member();
        let mut hashing = Hashing::new(open(part).map_err(writing)?, size);
        add(&part.name, size, &mut hashing)?;
        hashing.is(part)?;
    }
    archive.into_inner().map_err(writing)
}

/// Reads a bundle. `judge` sees the manifest once its signature was proved, and may still refuse it; `take` gets each part
/// in its order as the archive has it, whole or as a delta, and has to read all of it. Only when this ends well has all of
/// that been what was signed; what a delta gives, `take` has to compare.
///
/// # Errors
/// When none of the owners has signed it, it isn't whole, or what `judge` and `take` say.
pub fn read<E: From<BundleError>>(
    owners: &[String],
    input: impl Read,
    judge: impl FnOnce(&Bundle) -> Result<(), E>,
    mut take: impl FnMut(&Bundle, &Part, &mut dyn Read) -> Result<(), E>,
) -> Result<Bundle, E> {
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(not_a_bundle)?;
    let bundle = head(owners, &mut entries)?;
    judge(&bundle)?;
    for part in &bundle.parts {
        let entry = entries.next().ok_or_else(|| BundleError::Torn(part.name.clone()))?;
        let entry = entry.map_err(|_| BundleError::Torn(part.name.clone()))?;
        let is_it = entry.path().is_ok_and(|path| path.to_str() == Some(part.name.as_str()));
        let (size, _) = part.member();
        if !is_it || entry.size() != size {
            return Err(BundleError::Differs(part.name.clone()).into());
        }
        let mut hashing = Hashing::new(entry, size);
        let taken = take(&bundle, part, &mut hashing);
        // What is missing or damaged is the reason, whatever came of it.
        if hashing.left > 0 && hashing.ended {
            return Err(BundleError::Torn(part.name.clone()).into());
        }
        match taken {
            Err(error) if hashing.left > 0 => return Err(error),
            taken => hashing.is(part).map_err(E::from).and(taken)?,
        }
    }
    Ok(bundle)
}

/// Reads what a bundle says of itself, and nothing else of it.
///
/// # Errors
/// When none of the owners has signed it, or it is none.
pub fn manifest(owners: &[String], input: impl Read) -> Result<Bundle, BundleError> {
    head(owners, &mut tar::Archive::new(input).entries().map_err(not_a_bundle)?)
}

/// What tells a bundle from any other: the SHA-256 of what it says of itself, its parts' sums with it, in hexadecimal digits.
pub fn digest(bundle: &Bundle) -> String {
    hexadecimal(Sha256::digest(document::bytes(bundle)))
}

/// Reads what a bundle says of itself, and where in its file each part begins; nothing of the parts is read.
///
/// # Errors
/// When none of the owners has signed it, it is none, or its parts aren't there.
pub fn places(owners: &[String], file: impl Read + Seek) -> Result<(Bundle, Vec<u64>), BundleError> {
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries_with_seek().map_err(not_a_bundle)?;
    let bundle = head(owners, &mut entries)?;
    let mut places = Vec::new();
    for part in &bundle.parts {
        let entry = entries.next().ok_or_else(|| BundleError::Torn(part.name.clone()))?;
        let entry = entry.map_err(|_| BundleError::Torn(part.name.clone()))?;
        if entry.size() != part.member().0 {
            return Err(BundleError::Differs(part.name.clone()));
        }
        places.push(entry.raw_file_position());
    }
    Ok((bundle, places))
}

/// The manifest, once its signature was proved.
fn head<R: Read>(owners: &[String], entries: &mut tar::Entries<'_, R>) -> Result<Bundle, BundleError> {
    let manifest = small(entries, MANIFEST, LIMIT)?;
    let signed = small(entries, &format!("{MANIFEST}{}", signature::ENDING), 1024)?;
    proved(owners, &manifest, &String::from_utf8_lossy(&signed))
}

/// The next member, which has this name and isn't longer than it may be.
fn small<R: Read>(entries: &mut tar::Entries<'_, R>, name: &str, limit: u64) -> Result<Vec<u8>, BundleError> {
    let entry = entries.next().ok_or_else(|| BundleError::NotABundle("it is empty".into()))?;
    let mut entry = entry.map_err(not_a_bundle)?;
    let is_it = entry.path().is_ok_and(|path| path.to_str() == Some(name));
    if !is_it || entry.size() > limit {
        return Err(BundleError::NotABundle(format!("{name} isn't where it has to be")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|_| BundleError::Torn(name.into()))?;
    if bytes.len() as u64 == entry.size() { Ok(bytes) } else { Err(BundleError::Torn(name.into())) }
}

fn not_a_bundle(error: io::Error) -> BundleError {
    BundleError::NotABundle(error.to_string())
}

/// The manifest of these bytes.
fn proved(owners: &[String], manifest: &[u8], signed: &str) -> Result<Bundle, BundleError> {
    /// So that another kind is named as such, whatever else it has.
    #[derive(Deserialize)]
    struct Sort {
        kind: String,
    }
    let sort: Sort = document::read(owners, KIND, FORMAT, manifest, signed)?;
    if ![SYSTEM, DELTA, APPS].contains(&sort.kind.as_str()) {
        return Err(BundleError::Newer(format!("the kind `{}`", sort.kind)));
    }
    let bundle: Bundle = document::parse(FORMAT, manifest)?;
    let has_deltas = bundle.parts.iter().any(|part| part.delta.is_some());
    let is_delta = bundle.kind == DELTA;
    if is_delta != bundle.base.is_some() || (has_deltas && !is_delta) {
        return Err(BundleError::Malformed);
    }
    Ok(bundle)
}

/// A part as it passes by.
struct Hashing<R> {
    input: R,
    hash: Sha256,
    left: u64,
    ended: bool,
}

impl<R: Read> Hashing<R> {
    fn new(input: R, left: u64) -> Self {
        Self { input, hash: Sha256::new(), left, ended: false }
    }

    fn is(self, part: &Part) -> Result<(), BundleError> {
        let is_it = self.left == 0 && hexadecimal(self.hash.finalize()) == part.member().1;
        if is_it { Ok(()) } else { Err(BundleError::Differs(part.name.clone())) }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut bytes[..most]).inspect_err(|_| self.ended = true)?;
        self.ended |= read == 0;
        self.hash.update(&bytes[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::bundle::{Base, Delta, INITRAMFS, KERNEL, ROOT};

    fn content(name: &str) -> Vec<u8> {
        name.as_bytes().repeat(700)
    }

    fn bundle() -> Bundle {
        let part = |name: &str| Part {
            name: name.into(),
            size: content(name).len() as u64,
            sha256: hexadecimal(Sha256::digest(content(name))),
            ..Part::default()
        };
        let parts = [KERNEL, INITRAMFS, ROOT].map(part).to_vec();
        Bundle { format: FORMAT, kind: SYSTEM.into(), image: "i".into(), board: "b".into(), parts, ..Bundle::default() }
    }

    fn written(bundle: &Bundle, keys: &OwnerKeys) -> Vec<u8> {
        write(bundle, keys, |part| Ok(Box::new(io::Cursor::new(content(&part.name)))), Vec::new()).unwrap()
    }

    /// Reads one; which parts were taken before it ended.
    fn taken(owners: &[String], bytes: &[u8]) -> (Result<Bundle, BundleError>, Vec<String>) {
        let mut parts = Vec::new();
        let read = read(
            owners,
            bytes,
            |_| Ok(()),
            |_, part, input| {
                parts.push(part.name.clone());
                let mut all = Vec::new();
                input.read_to_end(&mut all).map_err(|source| BundleError::Stream { act: "reading", source })?;
                Ok(())
            },
        );
        (read, parts)
    }

    #[test]
    fn a_bundle_reads_back_and_is_the_same_bytes_each_time() {
        let owner = OwnerKeys::generate([1; 32]);
        let bytes = written(&bundle(), &owner);
        assert_eq!(bytes, written(&bundle(), &owner));
        let (read, parts) = taken(&[owner.owner_key()], &bytes);
        assert_eq!((read.unwrap(), parts), (bundle(), vec![KERNEL.to_string(), INITRAMFS.into(), ROOT.into()]));
    }

    #[test]
    fn whatever_a_bundle_says_tells_it_from_another() {
        let other = Bundle { time: 1, ..bundle() };
        assert_eq!(digest(&bundle()), digest(&bundle()));
        assert_ne!(digest(&bundle()), digest(&other));
        let (manifest, _) = document::sign(&bundle(), KIND, &OwnerKeys::generate([1; 32]));
        assert_eq!(digest(&bundle()), hexadecimal(Sha256::digest(manifest)), "it is the signed manifest's");
    }

    #[test]
    fn a_strangers_bundle_is_refused_before_any_part_is_touched() {
        let (owner, stranger) = (OwnerKeys::generate([1; 32]), OwnerKeys::generate([2; 32]));
        let (read, parts) = taken(&[owner.owner_key()], &written(&bundle(), &stranger));
        assert!(matches!(read, Err(BundleError::Signature(SignatureError::Stranger))) && parts.is_empty());
        // A grant by the same owner is no bundle.
        let manifest = serde_json::to_vec(&bundle()).unwrap();
        let signed = signature::sign(&owner, "grant", &manifest);
        assert!(proved(&[owner.owner_key()], &manifest, &signed).is_err());
    }

    #[test]
    fn whatever_byte_is_flipped_and_wherever_it_is_cut_it_is_not_whole() {
        let owner = OwnerKeys::generate([1; 32]);
        let (owners, bytes) = ([owner.owner_key()], written(&bundle(), &owner));
        let mut accepted = 0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // Padding, owners and times in the archive's own headers say nothing.
            accepted += usize::from(taken(&owners, &changed).0.is_ok_and(|read| read != bundle()));
        }
        assert_eq!(accepted, 0);
        let end = bytes.len() - 1024;
        for length in (0..end).step_by(61) {
            let (read, _) = taken(&owners, &bytes[..length]);
            let told = matches!(read, Err(BundleError::Torn(_) | BundleError::NotABundle(_)));
            // The last part's padding may be missing: all of it is there.
            assert!(told || length + 512 > end, "{length}: {read:?}");
        }
        // One bit of a part is told as such, the part's name with it.
        let at = bytes.len() - 2048;
        let mut changed = bytes;
        changed[at] ^= 4;
        let (read, parts) = taken(&owners, &changed);
        assert!(matches!(read, Err(BundleError::Differs(part)) if part == ROOT), "{parts:?}");
    }

    #[test]
    fn what_is_newer_is_called_so() {
        let owner = OwnerKeys::generate([1; 32]);
        for (other, word) in [
            (Bundle { format: 2, ..bundle() }, "format 2"),
            (Bundle { kind: "boot-loader".into(), ..bundle() }, "`boot-loader`"),
        ] {
            let (read, parts) = taken(&[owner.owner_key()], &written(&other, &owner));
            assert!(matches!(read, Err(BundleError::Newer(text)) if text.contains(word)) && parts.is_empty());
        }
    }

    #[test]
    fn a_delta_is_what_the_archive_has_and_says_of_what() {
        let owner = OwnerKeys::generate([1; 32]);
        let owners = [owner.owner_key()];
        let mut delta = bundle();
        let member = content(ROOT);
        let sha256 = hexadecimal(Sha256::digest(&member));
        delta.parts[2] = Part {
            size: 1 << 30,
            sha256: "0".repeat(64),
            delta: Some(Delta { size: member.len() as u64, sha256 }),
            ..delta.parts[2].clone()
        };
        let (said, parts) = taken(&owners, &written(&delta, &owner));
        assert!(matches!(said, Err(BundleError::Malformed)) && parts.is_empty(), "of what, and that it is one");
        let delta = Bundle { kind: DELTA.into(), base: Some(Base { image: "o".into(), ..Base::default() }), ..delta };
        let bytes = written(&delta, &owner);
        assert_eq!(taken(&owners, &bytes).0.unwrap(), delta);
        // Whatever it was taken for: that it was damaged on its way is the reason.
        let mut changed = bytes;
        let at = changed.len() - 2048;
        changed[at] ^= 4;
        let said = read(
            &owners,
            &changed[..],
            |_| Ok(()),
            |_, part, input| {
                io::copy(input, &mut io::sink()).unwrap();
                if part.delta.is_some() { Err(BundleError::Malformed) } else { Ok(()) }
            },
        );
        assert!(matches!(said, Err(BundleError::Differs(part)) if part == ROOT));
    }

    #[test]
    fn a_judge_may_refuse_and_nothing_is_taken() {
        let owner = OwnerKeys::generate([1; 32]);
        let bytes = written(&bundle(), &owner);
        let mut touched = false;
        let refused = read(
            &[owner.owner_key()],
            &bytes[..],
            |_| Err(BundleError::Malformed),
            |_, _, _| {
                touched = true;
                Ok(())
            },
        );
        assert!(refused.is_err() && !touched);
    }
}
