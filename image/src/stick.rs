//! `bakelite stick`: sets that were chosen, with a grant that lets certain machines take them, on a mounted stick.
//!
//! Each set is read to its end before anything is written: a stick with half a set is worse than none. The grant comes
//! last. Must never format or mount anything, and never writes a private key of an owner's; what opens the sets is on the
//! stick, and whoever holds it can open them.

use crate::host::file::{self, FileError};
use crate::source::digest::Hashing;
use bakelite_spec::pattern;
use bakelite_spec::set::{self, MANIFEST, MANIFEST_LIMIT, Manifest};
use bakelite_trust::file_key::FileKey;
use bakelite_trust::grant::{FORMAT, Grant, GrantedSet};
use bakelite_trust::keys::{KeyError, OwnerKeys};
use bakelite_trust::{signature, stick};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why no stick was made.
#[derive(Debug, thiserror::Error)]
pub enum StickError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The stick isn't there.
    #[error("{} is not a folder; mount the stick, and give the place where it is mounted", .0.display())]
    NoFolder(PathBuf),
    /// The key file isn't one.
    #[error("{} is no key file: {source}; `bakelite new` makes one", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// A set whose name isn't a set's.
    #[error("{} has no set's name, such as 00000012-20261121T165500Z.tar.zst.age; give it back the name that it had", .0.display())]
    Name(PathBuf),
    /// The key doesn't open a set.
    #[error("{} can't be opened with this key ({source}); a machine writes for the `backup.recipients` that it was baked with", path.display())]
    Closed {
        /// Which.
        path: PathBuf,
        /// age's words.
        source: age::DecryptError,
    },
    /// What comes out isn't a set.
    #[error("{} is no whole set: {problem}", path.display())]
    Torn {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The node isn't among those that the stick is for.
    #[error("{} is of {node}, and no pattern given with --for fits it; give another --for", path.display())]
    OtherNode {
        /// Which.
        path: PathBuf,
        /// Its node.
        node: String,
    },
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// What is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Where the stick is mounted.
    pub folder: &'a Path,
    /// The owner's key file.
    pub key: &'a Path,
    /// Patterns of the nodes that may take the sets.
    pub nodes: &'a [String],
    /// For how many days.
    pub days: u32,
    /// The sets.
    pub sets: &'a [PathBuf],
}

/// A set that is to go onto the stick.
struct Chosen<'a> {
    from: &'a Path,
    name: String,
    granted: GrantedSet,
}

/// Writes sets and grant; what is on the stick afterwards, by its paths there.
///
/// # Errors
/// When the key opens a set not, a set isn't whole or of another node, or the stick can't be written.
pub fn make(wanted: &Wanted<'_>) -> Result<Vec<PathBuf>, StickError> {
    if !wanted.folder.is_dir() {
        return Err(StickError::NoFolder(wanted.folder.into()));
    }
    let text = std::fs::read_to_string(wanted.key).map_err(reading(wanted.key))?;
    let keys = OwnerKeys::parse(&text).map_err(|source| StickError::Key { path: wanted.key.into(), source })?;
    let chosen: Vec<Chosen<'_>> =
        wanted.sets.iter().map(|path| choose(path, &keys, wanted.nodes)).collect::<Result<_, _>>()?;
    let root = wanted.folder.join(stick::FOLDER);
    let mut written = Vec::new();
    for set in &chosen {
        let place = Path::new(stick::SETS).join(&set.granted.node).join(&set.name);
        let target = root.join(&place);
        file::make_folder(file::folder_of(&target))?;
        let mut temporary = file::begin(file::folder_of(&target))?;
        File::open(set.from)
            .and_then(|mut from| io::copy(&mut from, temporary.as_file_mut()))
            .map_err(reading(set.from))?;
        file::publish(temporary, &target)?;
        written.push(Path::new(stick::FOLDER).join(place));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let expires = i64::try_from(now + u64::from(wanted.days) * 86_400).unwrap_or(i64::MAX);
    let sets = chosen.into_iter().map(|set| set.granted).collect();
    let grant = Grant { format: FORMAT, nodes: wanted.nodes.to_vec(), expires, sets };
    let (bytes, signed) = grant.sign(&keys);
    let name = format!("{now}.json");
    let folder = root.join(stick::GRANTS);
    file::make_folder(&folder)?;
    // A grant counts with its signature; so that comes first.
    file::write(&folder.join(format!("{name}{}", signature::ENDING)), signed.as_bytes())?;
    file::write(&folder.join(&name), &bytes)?;
    written.push(Path::new(stick::FOLDER).join(stick::GRANTS).join(name));
    Ok(written)
}

fn reading(path: &Path) -> impl Fn(io::Error) -> StickError {
    move |source| StickError::Read { path: path.into(), source }
}

/// Opens a set, reads it to its end, and says what the grant says of it.
fn choose<'a>(path: &'a Path, keys: &OwnerKeys, nodes: &[String]) -> Result<Chosen<'a>, StickError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    set::number(&name).ok_or_else(|| StickError::Name(path.into()))?;
    let open = || File::open(path).map(BufReader::new).map_err(reading(path));
    let closed = |source| StickError::Closed { path: path.into(), source };
    let (manifest, key) = if name.ends_with(set::ENCRYPTED) {
        let key = FileKey::of(open()?, keys.identity()).map_err(closed)?;
        let opened = age::Decryptor::new_buffered(open()?).map_err(closed)?;
        let plain = opened.decrypt(std::iter::once(keys.identity() as &dyn age::Identity)).map_err(closed)?;
        (read(path, plain)?, key.to_text())
    } else {
        (read(path, open()?)?, String::new())
    };
    if !stick::is_node(&manifest.node) || !nodes.iter().any(|pattern| pattern::fits(pattern, &manifest.node)) {
        return Err(StickError::OtherNode { path: path.into(), node: manifest.node });
    }
    let mut hashing = Hashing::new(open()?);
    io::copy(&mut hashing, &mut io::sink()).map_err(reading(path))?;
    let sha256 = hashing.finish().0.to_string();
    let Manifest { node, k3s, revision, .. } = manifest;
    Ok(Chosen { from: path, name, granted: GrantedSet { sha256, node, k3s, revision, key } })
}

/// The manifest, after all members came out whole.
fn read(path: &Path, packed: impl Read) -> Result<Manifest, StickError> {
    let torn = |problem: String| StickError::Torn { path: path.into(), problem };
    let whole = || -> io::Result<Option<Manifest>> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed)?);
        let mut manifest = None;
        for entry in archive.entries()? {
            let mut entry = entry?;
            if manifest.is_none() {
                if entry.path_bytes() != MANIFEST.as_bytes() {
                    return Ok(None);
                }
                let mut text = Vec::new();
                entry.by_ref().take(MANIFEST_LIMIT).read_to_end(&mut text)?;
                manifest = Some(serde_json::from_slice(&text).map_err(io::Error::other)?);
            }
            io::copy(&mut entry, &mut io::sink())?;
        }
        Ok(manifest)
    };
    whole().map_err(|error| torn(error.to_string()))?.ok_or_else(|| torn("it doesn't begin with a manifest".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Write;

    const NAME: &str = "00000012-20261121T165500Z.tar.zst.age";

    fn packed() -> Vec<u8> {
        let manifest = Manifest {
            format: set::FORMAT,
            made: 0,
            version: String::new(),
            node: "shop-17".into(),
            epoch: 0,
            k3s: "rehearsal".into(),
            datastore: bakelite_spec::records::Datastore::Sqlite,
            keys: BTreeMap::new(),
            revision: 70,
            compacted: 0,
            live: BTreeMap::new(),
            row: String::new(),
            volumes: set::Volumes::default(),
            members: Vec::new(),
        };
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (path, text) in [(MANIFEST, serde_json::to_vec(&manifest).unwrap()), ("db/state.db", vec![7; 9000])] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            tar.append_data(&mut header, path, &text[..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn encrypted(keys: &OwnerKeys) -> Vec<u8> {
        let recipient = keys.identity().to_public();
        let mut bytes = Vec::new();
        let to = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut output = to.wrap_output(&mut bytes).unwrap();
        output.write_all(&packed()).unwrap();
        output.finish().unwrap();
        bytes
    }

    #[test]
    fn a_stick_holds_whole_sets_and_a_grant_that_its_owner_signed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let keys = OwnerKeys::generate([7; 32]);
        let put = |name: &str, bytes: &[u8]| file::write(&at(name), bytes).unwrap();
        put("shop.key", keys.to_text().as_bytes());
        put(NAME, &encrypted(&keys));
        std::fs::create_dir(at("usb")).unwrap();
        let make = |nodes: &[&str], set: &str| {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let wanted = Wanted { folder: &at("usb"), key: &at("shop.key"), nodes: &nodes, days: 3, sets: &[at(set)] };
            super::make(&wanted)
        };
        assert!(matches!(make(&["till-*"], NAME), Err(StickError::OtherNode { .. })));
        assert_eq!(std::fs::read_dir(at("usb")).unwrap().count(), 0, "nothing was begun");
        let written = make(&["shop-*"], NAME).unwrap();
        assert_eq!(written[0], Path::new("bakelite-backup/sets/shop-17").join(NAME));
        assert_eq!(std::fs::read(at("usb").join(&written[0])).unwrap(), std::fs::read(at(NAME)).unwrap());
        let grant = at("usb").join(&written[1]);
        let signed = std::fs::read_to_string(format!("{}{}", grant.display(), signature::ENDING)).unwrap();
        let bytes = std::fs::read(&grant).unwrap();
        let read = Grant::read(&[keys.owner_key()], &bytes, &signed).unwrap();
        assert_eq!(
            (read.nodes, read.sets[0].node.as_str(), read.sets[0].revision),
            (vec!["shop-*".into()], "shop-17", 70)
        );
        let opens = FileKey::parse(&read.sets[0].key).unwrap();
        let other = encrypted(&keys);
        let opened = age::Decryptor::new(&other[..]).unwrap();
        assert!(opened.decrypt(std::iter::once(&opens as &dyn age::Identity)).is_err(), "it opens this file alone");
        assert!(Grant::read(&[OwnerKeys::generate([8; 32]).owner_key()], &bytes, &signed).is_err());

        put("00000013-20261121T165500Z.tar.zst.age", &encrypted(&keys)[..500]);
        assert!(matches!(make(&["*"], "00000013-20261121T165500Z.tar.zst.age"), Err(StickError::Torn { .. })));
        put("00000014-20261121T165500Z.tar.zst.age", &encrypted(&OwnerKeys::generate([8; 32])));
        assert!(matches!(make(&["*"], "00000014-20261121T165500Z.tar.zst.age"), Err(StickError::Closed { .. })));
        put("set", &packed());
        assert!(matches!(make(&["*"], "set"), Err(StickError::Name(_))));
        put("00000015-20261121T165500Z.tar.zst", &packed());
        assert_eq!(make(&["*"], "00000015-20261121T165500Z.tar.zst").unwrap().len(), 2, "a plain one");
        assert!(matches!(make(&["*"], "absent"), Err(StickError::Name(_))));
    }
}
