//! `files`: a user's own files, and what is made of `wifi` in the same way. A text that refers to secrets is baked as a
//! template and a link to where the device makes the file at each start; all else goes in as it is.

use super::{Loading, placed};
use crate::decide::wifi;
use crate::elf;
use crate::source::digest::Sha256;
use crate::tree::{Blob, Entry, Node};
use bakelite_spec::appliance::File;
use bakelite_spec::finding::Finding;
use bakelite_spec::manifest::Pass;
use bakelite_spec::secret::{Quoting, count};
use std::io::{self, Read};

/// Where files with secrets in them live: in memory only.
const RENDERED: &str = "/run/bakelite/files";
/// A file up to this many bytes is looked through for references and private keys.
const LOOKED_THROUGH: u64 = 1 << 20;
/// The beginnings of private keys, which mustn't be in an image.
const PRIVATE: &[&str] = &[
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----",
    "-----BEGIN DSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "AGE-SECRET-KEY-1",
    "ed25519-seed:",
    "PuTTY-User-Key-File-",
];

/// What stands in the place of a private key.
pub const INSTEAD: &str = "`{secret: NAME}` in its place, and the key in /var/lib/bakelite/secrets on the machine";

/// Whether some bytes hold a private key in text.
pub fn holds_private_key(bytes: &[u8]) -> bool {
    PRIVATE.iter().any(|start| bytes.windows(start.len()).any(|window| window == start.as_bytes()))
}

pub(super) fn load(loading: &mut Loading<'_>) {
    for (number, file) in loading.config.appliance.files.iter().enumerate() {
        load_one(loading, &format!("files[{number}]"), file);
    }
    if let Some(text) = wifi::config(&loading.config.appliance.wifi) {
        let file = File {
            from: None,
            text: Some(text),
            to: wifi::CONFIG.into(),
            mode: "0600".into(),
            owner: 0,
            group: 0,
            sha256: None,
        };
        load_one(loading, "wifi", &file);
    }
}

fn load_one(loading: &mut Loading<'_>, key: &str, file: &File) {
    let (content, from) = match (&file.from, &file.text) {
        (_, Some(text)) => (Blob::from(text.clone()), format!("{key}.text")),
        (Some(name), None) => {
            let from = format!("{key}.from");
            let path = loading.path(name);
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => match Blob::file(path) {
                    Ok(blob) => (blob, from),
                    Err(error) => return unreadable(loading, from, &error),
                },
                Ok(_) => {
                    let problem = format!("{} is not a file", path.display());
                    return loading.report(Finding::error(from, problem, "one entry for each file"));
                }
                Err(error) => {
                    let problem = format!("{} can't be read: {error}", path.display());
                    return loading.report(Finding::error(from, problem, "the name of a file, relative to this one"));
                }
            }
        }
        (None, None) => return,
    };
    // A small file is taken now: it may change before it is written, and only what was looked through goes in.
    let content = if content.length() <= LOOKED_THROUGH {
        match content.read() {
            Ok(bytes) => Blob::from(bytes),
            Err(error) => return unreadable(loading, from, &error),
        }
    } else {
        content
    };
    if let Some(problem) = problem_of(loading, file, &content) {
        let (name, problem, hint) = problem;
        let key = if name.is_empty() { from } else { format!("{key}.{name}") };
        return loading.report(Finding::error(key, problem, hint));
    }
    let text = match &content {
        Blob::Bytes(bytes) => std::str::from_utf8(bytes).ok().filter(|text| count(text) > 0),
        Blob::File { .. } | Blob::Part { .. } => None,
    };
    let path = file.to.trim_start_matches('/').to_string();
    let node = match text {
        Some(text) => {
            let to = format!("{RENDERED}{}", file.to);
            let placed = bakelite_spec::manifest::PlacedFile {
                mode: u32::from(file.permissions()),
                owner: file.owner,
                group: file.group,
                ..placed(&to, Some(Quoting::Plain), Pass::Early)
            };
            let text = text.as_bytes().to_vec();
            loading.place("files", &path, text, placed);
            Node::Link(to)
        }
        None => Node::File(content),
    };
    let entry = Entry { mode: file.permissions(), owner: file.owner, group: file.group, node };
    loading.user.entries.push((path, entry));
}

/// What is wrong with a file's content: the key's last name (empty for where it comes from), the problem, what to try.
fn problem_of(loading: &Loading<'_>, file: &File, content: &Blob) -> Option<(&'static str, String, String)> {
    let (sum, head) = match content.sum().and_then(|sum| Ok((sum, head_of(content)?))) {
        Ok(found) => found,
        Err(error) => return Some(("", format!("can't be read: {error}"), "a file that you may read".into())),
    };
    if let Some(wanted) = &file.sha256
        && wanted.to_ascii_lowercase().parse::<Sha256>().ok() != Some(sum)
    {
        let problem = format!("{} has another sum, {sum}", file.from.as_deref().unwrap_or("the text"));
        return Some(("sha256", problem, "the sum of the file that you mean, after a look at why it differs".into()));
    }
    if let Blob::Bytes(bytes) = content
        && holds_private_key(bytes)
    {
        return Some(("", "holds a private key, which must not be in an image".into(), INSTEAD.into()));
    }
    let arch = loading.config.board.arch;
    if elf::is_elf(&head)
        && let Err(what) = elf::check_for(&head, arch)
    {
        let problem = format!("is {what}, the board is {}", arch.debian());
        return Some(("", problem, "the program built for the board".into()));
    }
    None
}

fn unreadable(loading: &mut Loading<'_>, key: String, error: &io::Error) {
    loading.report(Finding::error(key, format!("can't be read: {error}"), "a file that you may read"));
}

fn head_of(content: &Blob) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    content.open()?.take(elf::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}
