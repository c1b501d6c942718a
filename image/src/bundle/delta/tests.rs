//! Deltas as they are made: what is found again, that they give what they have to, and what none is made against.

use super::*;
use crate::host::file;
use bakelite_spec::bundle::{FORMAT, KERNEL, SYSTEM};
use bakelite_trust::bundle;
use std::io::Cursor;

/// Bytes that don't repeat themselves, the same each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let blocks = (0u64..).flat_map(|number| *Sha256::of(&[seed.to_le_bytes(), number.to_le_bytes()].concat()).bytes());
    blocks.take(length).collect()
}

fn bundle(image: &str, parts: &[(&str, Vec<u8>)]) -> Bundle {
    let part = |(name, content): &(&str, Vec<u8>)| Part {
        name: (*name).into(),
        size: content.len() as u64,
        sha256: Sha256::of(content).to_string(),
        ..Part::default()
    };
    let parts = parts.iter().map(part).collect();
    Bundle { format: FORMAT, kind: SYSTEM.into(), image: image.into(), version: "1".into(), parts, ..Bundle::default() }
}

fn content<'a>(parts: &'a [(&'a str, Vec<u8>)], name: &str) -> Box<dyn Content + 'a> {
    let (_, content) = parts.iter().find(|(known, _)| *known == name).unwrap();
    Box::new(Cursor::new(content))
}

fn keys() -> OwnerKeys {
    OwnerKeys::generate([1; 32])
}

/// An older bundle as a file.
fn older(folder: &Path, bundle: &Bundle, parts: &[(&str, Vec<u8>)]) -> std::path::PathBuf {
    let path = folder.join("old.bundle");
    let bytes = bundle::write(bundle, &keys(), |part| Ok(Box::new(content(parts, &part.name))), Vec::new()).unwrap();
    file::write(&path, &bytes).unwrap();
    path
}

fn made(was: &[(&str, Vec<u8>)], comes: &[(&str, Vec<u8>)]) -> (Result<Deltas, MakeError>, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let path = older(folder.path(), &bundle("old", was), was);
    let new = bundle("new", comes);
    let old = Older::open(&path, &keys()).unwrap();
    (Deltas::make(&new, |name| content(comes, name), &old, &path), new)
}

fn result(deltas: &Deltas, part: &Part, old: &[u8]) -> Vec<u8> {
    let mut given = Vec::new();
    let delta = unpacked(deltas.open(&part.name).unwrap().unwrap()).unwrap();
    Followed::new(delta, Cursor::new(old), old.len() as u64, part.size).unwrap().read_to_end(&mut given).unwrap();
    given
}

#[test]
fn what_has_only_moved_is_found_again_and_the_rest_is_brought() {
    let (system, kernel) = (noise(1, 2_000_000), noise(2, 300_000));
    // Something more in front and behind, something else in the middle.
    let comes = [noise(3, 5_000), system[..900_000].to_vec(), noise(4, 7_000), system[910_000..].to_vec()].concat();
    let (was, comes) = ([(KERNEL, kernel.clone()), (ROOT, system.clone())], [(KERNEL, kernel.clone()), (ROOT, comes)]);
    let (deltas, new) = made(&was, &comes);
    let deltas = deltas.unwrap();
    assert_eq!(deltas.base, Base { image: "old".into(), version: "1".into(), sha256: was_sum(&system) });
    for (part, (_, old)) in new.parts.iter().zip(&was) {
        assert_eq!(result(&deltas, part, old), comes.iter().find(|(name, _)| *name == part.name).unwrap().1);
    }
    let sizes: Vec<u64> = new.parts.iter().map(|part| deltas.apply(part).member().0).collect();
    assert!(sizes[0] < 50, "a kernel that is the same is one copy: {sizes:?}");
    assert!((12_000..12_000 + 6 * 4 * AVERAGE as u64).contains(&sizes[1]), "{sizes:?}");
    assert_eq!(deltas.save_half(&new), Ok(()));
    // The same two give the same.
    let (again, _) = made(&was, &comes);
    assert_eq!(again.unwrap().apply(&new.parts[1]), deltas.apply(&new.parts[1]));
}

fn was_sum(bytes: &[u8]) -> String {
    Sha256::of(bytes).to_string()
}

#[test]
fn what_saves_less_than_half_comes_whole_and_that_is_said() {
    let (system, kernel) = (noise(1, 200_000), noise(2, 300_000));
    let (was, comes) = ([(ROOT, system.clone())], [(KERNEL, kernel), (ROOT, system)]);
    let (deltas, new) = made(&was, &comes);
    let deltas = deltas.unwrap();
    assert!(deltas.open(KERNEL).is_none(), "the older one has none");
    let why = deltas.save_half(&new).unwrap_err();
    assert!(why.contains("saves less than half"), "{why}");
    // A delta that isn't smaller than its part isn't taken.
    let (deltas, new) = made(&[(ROOT, noise(5, 100_000))], &[(ROOT, noise(6, 100_000))]);
    let deltas = deltas.unwrap();
    assert!(deltas.open(ROOT).is_none() && deltas.apply(&new.parts[0]) == new.parts[0]);
}

#[test]
fn what_is_no_base_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [(ROOT, noise(1, 10_000))];
    let new = bundle("new", &parts);
    let refused = |was: Bundle| {
        let path = older(folder.path(), &was, &parts);
        let old = Older::open(&path, &keys())?;
        Deltas::make(&new, |name| content(&parts, name), &old, &path).map(drop)
    };
    let base = Some(Base::default());
    for (was, why) in [
        (bundle("new", &parts), "it is the same image"),
        (Bundle { board: "rpi4".into(), ..bundle("old", &parts) }, "no machine takes the new one in its place"),
        (Bundle { name: "till".into(), ..bundle("old", &parts) }, "no machine takes the new one in its place"),
        (Bundle { kind: APPS.into(), ..bundle("old", &parts) }, "it is a bundle of apps"),
        (Bundle { kind: DELTA.into(), base, ..bundle("old", &parts) }, "it is a delta itself"),
    ] {
        let said = refused(was).unwrap_err().to_string();
        assert!(said.contains(why), "{why}: {said}");
    }
    let path = older(folder.path(), &bundle("old", &parts), &parts);
    let said = Older::open(&path, &OwnerKeys::generate([2; 32])).err().unwrap().to_string();
    assert!(said.contains("isn't signed by any of"), "{said}");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4096;
    bytes[at] ^= 1;
    file::write(&path, &bytes).unwrap();
    let old = Older::open(&path, &keys()).unwrap();
    let said = Deltas::make(&new, |name| content(&parts, name), &old, &path).err().unwrap().to_string();
    assert!(said.contains("its system.squashfs is damaged"), "{said}");
}

#[test]
fn runs_longer_than_an_instruction_are_several() {
    let runs = [Run { from: Some(7), at: 0, length: MOST + 5 }];
    let mut bytes = Vec::new();
    let mut file = write(&runs, &mut Cursor::new(&[][..])).unwrap();
    file.rewind().unwrap();
    unpacked(&file).unwrap().read_to_end(&mut bytes).unwrap();
    let copy = |at, length| Instruction::Copy { at, length }.encode();
    assert_eq!(bytes, [&MAGIC[..], &copy(7, 1 << 30), &copy(7 + MOST, 5)].concat());
}
