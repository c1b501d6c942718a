//! `bakelite serve-sets`: the one command that a controller's ssh key may run. It hands out sets, and nothing else.
//!
//! What the caller wants comes in SSH_ORIGINAL_COMMAND and is never given to a shell. Nothing is written, and only a name
//! that stands on a shelf is opened: a path can't be asked for. The sets are encrypted; who pulls them can't open them.

use crate::KeeperError;
use crate::shelf::Shelf;
use bakelite_spec::answer::Answer;
use bakelite_spec::set;
use bakelite_sys::SysError;
use bakelite_sys::sum::pour;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The variable in which an ssh server leaves what the caller typed.
pub const ASKED: &str = "SSH_ORIGINAL_COMMAND";

/// Answers a caller.
///
/// # Errors
/// When it asks for something else, for a set that isn't here, or the set can't be read or handed over.
pub fn serve(asked: &str, output: &mut impl Write) -> Result<(), KeeperError> {
    let shelves = crate::node().map_or_else(Vec::new, |node| Shelf::all(&node));
    answer(&shelves, asked, output)
}

fn answer(shelves: &[Shelf], asked: &str, output: &mut impl Write) -> Result<(), KeeperError> {
    let words: Vec<&str> = asked.split_whitespace().collect();
    let (answer, words) = Answer::take(&words);
    let sets = sets(shelves);
    let path = |name: &str| sets.get(name).ok_or_else(|| KeeperError::NoSuchSet(name.into()));
    let gone = |source| SysError::Write { path: "the caller's connection".into(), source };
    match words[..] {
        ["list"] => {
            for (name, path) in &sets {
                let bytes = path.metadata().map_or(0, |meta| meta.len());
                let made = set::made(name).unwrap_or(0);
                let line =
                    answer.one(&json!({ "set": name, "bytes": bytes, "made": made }), || format!("{name} {bytes}"));
                output.write_all(line.as_bytes()).map_err(gone)?;
            }
        }
        ["get", name] => hand_over(path(name)?, 0, output)?,
        ["get", name, from] => {
            let from = from.parse().map_err(|_| KeeperError::Serve(asked.into()))?;
            hand_over(path(name)?, from, output)?;
        }
        ["sum", name] => {
            let path = path(name)?;
            let read = |source| SysError::Read { path: path.clone(), source };
            let (bytes, sum) = File::open(path).and_then(|file| pour(file, std::io::sink())).map_err(read)?;
            let value = json!({ "set": name, "bytes": bytes, "sha256": sum });
            output.write_all(answer.one(&value, || format!("{sum}  {name}")).as_bytes()).map_err(gone)?;
        }
        _ => return Err(KeeperError::Serve(asked.into())),
    }
    output.flush().map_err(gone)?;
    Ok(())
}

/// Whole sets by their names; of two copies the first shelf's.
fn sets(shelves: &[Shelf]) -> BTreeMap<String, PathBuf> {
    let all = shelves.iter().rev().flat_map(|shelf| {
        shelf.sets().into_iter().map(|(name, _)| (name.clone(), shelf.folder.join(name))).collect::<Vec<_>>()
    });
    all.filter(|(_, path)| path.symlink_metadata().is_ok_and(|meta| meta.is_file())).collect()
}

/// A set's bytes from a place on, so that what was cut off is gone on with.
fn hand_over(path: &Path, from: u64, output: &mut impl Write) -> Result<(), KeeperError> {
    let read = |source| SysError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if from > length {
        return Err(KeeperError::Behind { from, length });
    }
    file.seek(SeekFrom::Start(from)).map_err(read)?;
    pour(file.take(length - from), output).map_err(read)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_sys::durable;
    use proptest::prelude::*;

    const SET: &str = "00000002-20261121T165500Z.tar.zst.age";

    fn shelves(folder: &Path) -> Vec<Shelf> {
        let shelf = |place: &'static str| Shelf { place: place.into(), folder: folder.join(place).join("shop-1") };
        let shelves = vec![shelf("disk"), shelf("card")];
        let put = |path: PathBuf, bytes: &[u8]| {
            durable::make_folder(path.parent().unwrap()).unwrap();
            durable::replace(&path, bytes, 0o600).unwrap();
        };
        put(shelves[0].folder.join(SET), b"the newest set");
        put(shelves[1].folder.join(SET), b"the newest set");
        put(shelves[1].folder.join("00000001-20261121T155500Z.tar.zst.age"), b"older");
        put(shelves[1].folder.join(".00000003-20261121T175500Z.tar.zst.age.half"), b"hunter2 half");
        put(folder.join("secret"), b"hunter2");
        std::os::unix::fs::symlink(folder.join("secret"), shelves[1].folder.join("00000009-20261121T165500Z.tar.zst"))
            .unwrap();
        shelves
    }

    fn ask(shelves: &[Shelf], asked: &str) -> Result<String, KeeperError> {
        let mut output = Vec::new();
        answer(shelves, asked, &mut output).map(|()| String::from_utf8(output).unwrap())
    }

    #[test]
    fn sets_are_listed_once_and_handed_over_from_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let shelves = shelves(folder.path());
        let list = "00000001-20261121T155500Z.tar.zst.age 5\n00000002-20261121T165500Z.tar.zst.age 14\n";
        assert_eq!(ask(&shelves, "list").unwrap(), list);
        assert_eq!(ask(&shelves, " list --json").unwrap().lines().count(), 2);
        assert_eq!(ask(&shelves, &format!("get {SET}")).unwrap(), "the newest set");
        assert_eq!(ask(&shelves, &format!("get {SET} 11")).unwrap(), "set");
        assert_eq!(ask(&shelves, &format!("get {SET} 14")).unwrap(), "");
        assert!(matches!(ask(&shelves, &format!("get {SET} 15")), Err(KeeperError::Behind { .. })));
        let sum = ask(&shelves, &format!("sum {SET}")).unwrap();
        assert!(sum.len() == 64 + 2 + SET.len() + 1 && sum.ends_with(&format!("  {SET}\n")), "{sum}");
    }

    #[test]
    fn nothing_else_can_be_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let shelves = shelves(folder.path());
        for asked in [
            "",
            "sh",
            "get",
            "get ../../secret",
            "get /etc/passwd",
            "get .00000003-20261121T175500Z.tar.zst.age.half",
            "get 00000009-20261121T165500Z.tar.zst",
            "list; cat secret",
            "list $(cat secret)",
            "get a b c",
            "scp -f x",
        ] {
            assert!(ask(&shelves, asked).is_err(), "{asked}");
        }
        assert!(ask(&[], "list").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_asked_only_sets_come_out(asked in "(list|get|sum|\\.|/|-|0|[a-z]| |;|\\$|\\(|\\)|\n){0,12}") {
            let folder = tempfile::tempdir().unwrap();
            let told = ask(&shelves(folder.path()), &asked).unwrap_or_default();
            prop_assert!(!told.contains("hunter2"));
        }
    }
}
