//! Parts that come as deltas: as one passes by, it is made into what it stands for out of what runs on this machine.
//!
//! The system's is against the squashfs in the slot that runs, a boot file's against the file of its name in that slot's folder. What
//! comes out counts for nothing before its sum was found to be the signed one: so a byte that went bad in what runs is found, and
//! what runs goes on. Little is in memory, and nothing is stored but what comes out. Writes nothing itself.

use super::slot::{on, partition};
use crate::error::FirstbootError;
use bakelite_disk::delta::Followed;
use bakelite_disk::footer::Footer;
use bakelite_spec::bundle::{Bundle, Part, WINDOW};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_sys::onto::SYNC_EACH;
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, block, durable, words};
use bakelite_trust::bundle::BundleError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Why a bundle's deltas aren't against what is in the slot that runs, whatever its image says.
///
/// # Errors
/// The sentence for a person.
pub fn fits(root: &Path, running: &str, bundle: &Bundle) -> Result<(), String> {
    let Some(base) = &bundle.base else { return Ok(()) };
    let has = Running::open(root, running).map_err(|error| words(&error))?.footer;
    if hexadecimal(has.sha256) == base.sha256 {
        return Ok(());
    }
    let base = base.words();
    Err(format!(
        "it is a delta against {base}, and slot {running}, which runs, has another system; bring the whole bundle"
    ))
}

/// Opens what a part gives where it isn't a boot file.
///
/// # Errors
/// When the slot that runs can't be read, or its delta is none.
pub fn system<'a>(
    root: &Path,
    running: &str,
    part: &Part,
    input: &'a mut dyn Read,
) -> Result<Box<dyn Read + 'a>, FirstbootError> {
    if part.delta.is_none() {
        return Ok(Box::new(input));
    }
    let base = Running::open(root, running)?;
    let length = base.footer.length;
    follow(part, input, base, length)
}

/// Opens what a boot file's part gives; `folder` is that of the slot that runs.
///
/// # Errors
/// When the file there can't be read, or the delta is none.
pub fn boot_file<'a>(
    folder: &Path,
    part: &Part,
    input: &'a mut dyn Read,
) -> Result<Box<dyn Read + 'a>, FirstbootError> {
    if part.delta.is_none() {
        return Ok(Box::new(input));
    }
    let path = folder.join(&part.name);
    let opened = File::open(&path).and_then(|file| file.metadata().map(|found| (file, found.len())));
    let (base, length) = opened.map_err(|source| SysError::Read { path, source })?;
    follow(part, input, base, length)
}

fn follow<'a>(
    part: &Part,
    input: &'a mut dyn Read,
    base: impl Read + Seek + 'a,
    length: u64,
) -> Result<Box<dyn Read + 'a>, FirstbootError> {
    let begin = || {
        let mut delta = zstd::Decoder::new(input)?;
        delta.window_log_max(WINDOW)?;
        Followed::new(delta, base, length, part.size)
    };
    let followed = begin().map_err(|source| SysError::Read { path: part.name.as_str().into(), source })?;
    Ok(Box::new(followed))
}

/// Reads all that a part gives, and compares its sum.
///
/// # Errors
/// When it can't be read, or isn't what was signed.
pub fn is_it(part: &Part, input: &mut dyn Read) -> Result<(), FirstbootError> {
    let read = |source| SysError::Read { path: part.name.as_str().into(), source };
    let (length, sum) = pour(input, io::sink()).map_err(read)?;
    is_signed(part, length, &sum)
}

/// Whether what a part has given is what was signed.
///
/// # Errors
/// When it isn't: of a delta that came as it was signed, this says that what runs isn't what it was.
pub fn is_signed(part: &Part, length: u64, sum: &str) -> Result<(), FirstbootError> {
    if length == part.size && sum == part.sha256 {
        return Ok(());
    }
    let name = part.name.clone();
    Err(if part.delta.is_some() { FirstbootError::BaseDiffers(name) } else { BundleError::Differs(name).into() })
}

/// The squashfs in the slot that runs. What was read of it doesn't push k3s's pages out of memory.
struct Running {
    device: PathBuf,
    medium: File,
    footer: Footer,
    read: u64,
}

impl Running {
    fn open(root: &Path, slot: &str) -> Result<Self, FirstbootError> {
        let (device, length) = partition(root, slot)?;
        let (mut medium, _) = block::open(&device, false)?;
        let footer =
            Footer::read(&mut medium, 0, length).map_err(|source| on(&device.display().to_string(), source))?;
        Ok(Self { device, medium, footer, read: 0 })
    }
}

impl Read for Running {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.medium.read(bytes)?;
        self.read += read as u64;
        if self.read >= SYNC_EACH {
            durable::forget_cached(&self.device).map_err(io::Error::other)?;
            self.read = 0;
        }
        Ok(read)
    }
}

impl Seek for Running {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.medium.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_disk::delta::{Instruction, MAGIC};
    use bakelite_spec::bundle::{Delta, KERNEL};
    use sha2::{Digest, Sha256};

    const BASE: &[u8] = b"the old kernel of the machine";
    const RESULT: &[u8] = b"the new kernel of the machine";

    fn delta() -> (Part, Vec<u8>) {
        let copy = |at, length| Instruction::Copy { at, length }.encode();
        let insert = Instruction::Insert { length: 3 }.encode();
        let bytes = [&MAGIC[..], &copy(0, 4), &insert, b"new", &copy(7, 22)].concat();
        let bytes = zstd::encode_all(&bytes[..], 1).unwrap();
        let sum = |bytes: &[u8]| hexadecimal(Sha256::digest(bytes));
        let delta = Some(Delta { size: bytes.len() as u64, sha256: sum(&bytes) });
        (Part { name: KERNEL.into(), size: RESULT.len() as u64, sha256: sum(RESULT), delta, ..Part::default() }, bytes)
    }

    fn given(folder: &Path, part: &Part, mut bytes: &[u8]) -> Result<(), FirstbootError> {
        is_it(part, &mut *boot_file(folder, part, &mut bytes)?)
    }

    #[test]
    fn what_comes_out_is_compared_with_what_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let (part, bytes) = delta();
        let gone = given(folder.path(), &part, &bytes).unwrap_err();
        assert!(words(&gone).contains(KERNEL), "{gone:?}");
        let running = folder.path().join(KERNEL);
        durable::replace(&running, BASE, 0o644).unwrap();
        given(folder.path(), &part, &bytes).unwrap();
        // A byte went bad in what runs.
        let mut bad = BASE.to_vec();
        bad[20] ^= 1;
        durable::replace(&running, &bad, 0o644).unwrap();
        let said = words(&given(folder.path(), &part, &bytes).unwrap_err());
        assert!(said.contains("Bring the whole bundle"), "{said}");
        // What is shorter than what it was made against is no base.
        durable::replace(&running, &BASE[..20], 0o644).unwrap();
        let said = words(&given(folder.path(), &part, &bytes).unwrap_err());
        assert!(said.contains("of a base that has 20"), "{said}");
    }

    #[test]
    fn what_comes_whole_passes_as_it_is() {
        let part = Part { delta: None, ..delta().0 };
        assert!(given(Path::new("/nowhere"), &part, RESULT).is_ok());
        let said = words(&given(Path::new("/nowhere"), &part, BASE).unwrap_err());
        assert!(said.contains("it was damaged on its way"), "{said}");
    }
}
