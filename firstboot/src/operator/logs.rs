//! `bakelite logs`: what units have written in this boot, what is left of the boot before, and both as they go on.
//!
//! init keeps a bounded log of each unit in memory (two files of 1 MiB), and on state the ends of them: `last-boot` of a
//! boot that was ended in order, `last-words` of what failed. Only reads. Lines are shown as they were written; only the
//! events, which are JSON, are put into words.

use crate::error::FirstbootError;
use bakelite_spec::answer::Answer;
use bakelite_spec::event::Event;
use bakelite_spec::status::paths;
use bakelite_sys::kmsg::Ring;
use bakelite_sys::{names_in, terminal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The logs of this boot, in memory.
pub const FOLDER: &str = "/run/log/bakelite";
/// The same of the boot before, if it was ended in order; below [`paths::STATE`].
pub const LAST_BOOT: &str = "last-boot";
/// The ends of the logs of what failed; below [`paths::STATE`].
pub const LAST_WORDS: &str = "last-words";
/// The name under which the machine's own events are a log.
const EVENTS: &str = "events";
/// The name under which the kernel's messages are one.
const KERNEL: &str = "kernel";
/// Lines of each log where none is named.
const FEW: usize = 20;
/// Between two looks for more.
const LOOK: Duration = Duration::from_millis(300);

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted<'a> {
    unit: Option<&'a str>,
    follow: bool,
    previous: bool,
    lines: Option<usize>,
}

impl<'a> Wanted<'a> {
    fn read(words: &[&'a str]) -> Option<Self> {
        let mut wanted = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "-f" | "--follow" => wanted.follow = true,
                "--previous" => wanted.previous = true,
                "-n" | "--lines" => wanted.lines = Some(words.next()?.parse().ok()?),
                unit if !unit.starts_with('-') && wanted.unit.is_none() => wanted.unit = Some(unit),
                _ => return None,
            }
        }
        // What is over doesn't go on.
        (!(wanted.follow && wanted.previous)).then_some(wanted)
    }
}

/// Shows what the words ask for.
///
/// # Errors
/// When they mean nothing, or there is no such log.
pub fn show(root: &Path, answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let unknown = || FirstbootError::UnknownWords(format!("logs {}", words.join(" ")));
    let wanted = Wanted::read(words).ok_or_else(unknown)?;
    let folders = folders(root, wanted.previous);
    let mut logs: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for folder in &folders {
        for (name, files) in logs_in(folder) {
            logs.entry(name).or_insert(files);
        }
    }
    if !wanted.previous {
        logs.insert(KERNEL.into(), Vec::new());
    }
    let all: Vec<String> = logs.keys().cloned().collect();
    if let Some(unit) = wanted.unit {
        logs.retain(|name, _| name == unit);
        if logs.is_empty() {
            return Err(FirstbootError::NoSuchLog { unit: unit.into(), all });
        }
    } else {
        // The kernel says more than all others together, and nothing about the machine's units.
        logs.remove(KERNEL);
    }
    let voice = Voice { answer, with_names: wanted.unit.is_none() };
    let last = wanted.lines.or(wanted.unit.is_none().then_some(FEW));
    let mut followed = Vec::new();
    let mut ring = Ring::open().filter(|_| logs.contains_key(KERNEL));
    for (name, files) in &logs {
        let text = match &mut ring {
            Some(ring) => ring.more(),
            None => files.iter().map(|file| text_of(file)).collect(),
        };
        let lines: Vec<&str> = text.lines().collect();
        let from = last.map_or(0, |last| lines.len().saturating_sub(last));
        if !terminal::print(&lines[from..].iter().map(|line| voice.line(name, line)).collect::<String>()) {
            return Ok(());
        }
        followed.extend(files.last().map(|file| Followed::new(name, file)));
    }
    while wanted.follow && !terminal::wait_unless_left(LOOK) {
        let mut text: String = followed.iter_mut().flat_map(|log| log.more(&voice)).collect();
        let kernel = ring.as_mut().map(Ring::more).unwrap_or_default();
        text.extend(kernel.lines().map(|line| voice.line(KERNEL, line)));
        if !text.is_empty() && !terminal::print(&text) {
            break;
        }
    }
    Ok(())
}

/// Where logs are looked for; of two logs of one name the first folder's counts.
fn folders(root: &Path, previous: bool) -> Vec<PathBuf> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    if previous {
        let state = at(paths::STATE);
        vec![state.join(LAST_BOOT), state.join(LAST_WORDS)]
    } else {
        vec![at(FOLDER)]
    }
}

/// The logs in a folder by their names, each with its files, the older one first.
pub fn logs_in(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut logs: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let names = names_in(folder);
    for ending in [".log.1", ".log", ".jsonl"] {
        for name in &names {
            if let Some(unit) = name.strip_suffix(ending) {
                logs.entry(unit.into()).or_default().push(folder.join(name));
            }
        }
    }
    logs
}

/// A log's text; it may have bytes that are none.
fn text_of(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// How lines are shown.
#[derive(Clone, Copy, Debug)]
struct Voice {
    answer: Answer,
    with_names: bool,
}

impl Voice {
    fn line(self, name: &str, line: &str) -> String {
        let event = (name == EVENTS).then(|| serde_json::from_str::<Event>(line).ok()).flatten();
        if self.answer.json {
            let value = match event.and_then(|event| serde_json::to_value(event).ok()) {
                Some(event) => json!({ "log": name, "event": event }),
                None => json!({ "log": name, "line": Value::from(line) }),
            };
            return format!("{value}\n");
        }
        let words = event.map(|event| format!("[{:>8.3}] {}", event.at, event.what.words()));
        let words = words.as_deref().unwrap_or(line);
        if self.with_names { format!("{name:<9} | {words}\n") } else { format!("{words}\n") }
    }
}

/// A log that goes on.
struct Followed<'a> {
    name: &'a str,
    path: &'a Path,
    file: Option<File>,
    /// What was written of a line that isn't whole yet.
    begun: String,
}

impl<'a> Followed<'a> {
    /// What was there was shown already.
    fn new(name: &'a str, path: &'a Path) -> Self {
        let mut file = File::open(path).ok();
        if let Some(file) = &mut file {
            let _ = file.seek(SeekFrom::End(0));
        }
        Self { name, path, file, begun: String::new() }
    }

    /// What has come since, the rest of a file that was put aside included.
    fn more(&mut self, voice: &Voice) -> Vec<String> {
        self.take();
        let number = |file: &File| file.metadata().map(|meta| meta.ino()).ok();
        let now = std::fs::metadata(self.path).map(|meta| meta.ino()).ok();
        if now.is_some() && self.file.as_ref().and_then(number) != now {
            self.file = File::open(self.path).ok();
            self.take();
        }
        let Some(end) = self.begun.rfind('\n') else { return Vec::new() };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        whole.lines().map(|line| voice.line(self.name, line)).collect()
    }

    fn take(&mut self) {
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            let _ = file.read_to_end(&mut bytes);
        }
        self.begun += &String::from_utf8_lossy(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::write;
    use bakelite_sys::durable;

    const PLAIN: Voice = Voice { answer: Answer { json: false }, with_names: false };

    #[test]
    fn words_are_read_and_what_contradicts_itself_is_refused() {
        let all = Wanted { unit: Some("k3s"), follow: true, previous: false, lines: Some(5) };
        assert_eq!(Wanted::read(&["-n", "5", "k3s", "-f"]), Some(all));
        assert_eq!(Wanted::read(&[]), Some(Wanted::default()));
        for wrong in [&["k3s", "ssh"][..], &["-n"], &["-n", "x"], &["-x"], &["-f", "--previous"]] {
            assert_eq!(Wanted::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_log_is_its_older_part_and_the_newer_one_and_the_boot_before_is_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| write(root.path(), path, text);
        put("/run/log/bakelite/k3s.log", "new\n");
        put("/run/log/bakelite/k3s.log.1", "old\n");
        put("/var/lib/bakelite/last-boot/k3s.log", "boot before\n");
        put("/var/lib/bakelite/last-words/k3s.log", "words\n");
        put("/var/lib/bakelite/last-words/till.log", "failed\n");
        let now = logs_in(&folders(root.path(), false)[0]);
        assert_eq!(now["k3s"].iter().map(|file| text_of(file)).collect::<String>(), "old\nnew\n");
        let before: Vec<_> = folders(root.path(), true).iter().map(|folder| logs_in(folder)).collect();
        assert_eq!(text_of(&before[0]["k3s"][0]), "boot before\n");
        assert_eq!(text_of(&before[1]["till"][0]), "failed\n");
        let error = show(root.path(), Answer::default(), &["none"]).unwrap_err().to_string();
        assert!(error.contains("none") && error.contains("k3s"), "{error}");
    }

    #[test]
    fn events_are_put_into_words_and_stay_json_for_programs() {
        let line = r#"{"at":1.5,"event":"ready","payload":"rehearsal"}"#;
        assert_eq!(PLAIN.line(EVENTS, line), "[   1.500] READY: rehearsal\n");
        assert_eq!(PLAIN.line("k3s", line), format!("{line}\n"));
        let json = Voice { answer: Answer { json: true }, ..PLAIN };
        let told: Value = serde_json::from_str(&json.line(EVENTS, line)).unwrap();
        assert_eq!(told["event"]["event"], "ready");
        assert_eq!(json.line("k3s", "a\"b"), "{\"line\":\"a\\\"b\",\"log\":\"k3s\"}\n");
        assert_eq!(Voice { with_names: true, ..PLAIN }.line("k3s", "x"), "k3s       | x\n");
    }

    #[test]
    fn a_log_is_followed_over_its_rotation_by_whole_lines() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k3s.log");
        let append = |text: &str| {
            let mut file = File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("before\n");
        let mut followed = Followed::new("k3s", &path);
        assert_eq!(followed.more(&PLAIN), Vec::<String>::new());
        append("one\ntw");
        assert_eq!(followed.more(&PLAIN), ["one\n"]);
        append("o\n");
        durable::rename(&path, &folder.path().join("k3s.log.1")).unwrap();
        append("three\n");
        assert_eq!(followed.more(&PLAIN), ["two\n", "three\n"]);
    }
}
