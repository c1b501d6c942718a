//! The datastore's acts one by one, for `scripts/bench datastore`. Each prints its seconds, its
//! largest memory in kB, and the bytes that it wrote.

#[path = "../tests/load/mod.rs"]
#[expect(dead_code, reason = "the proof looks at the writer while it writes; a measure doesn't")]
mod load;

use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::restore::{Places, put_in_place, stage};
use rusqlite::Connection;
use rusqlite::backup::Backup;
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    match words[..] {
        ["fill", path, megabytes] => load::fill(Path::new(path), megabytes.parse::<u64>()? << 20)?,
        ["write", path, told, stop] => load::write_on(Path::new(path), Path::new(told), Path::new(stop))?,
        ["one-step", from, to] => one_step(from, to)?,
        ["copy", from, to] => drop(bakelite_datastore::copy(Path::new(from), Path::new(to))?),
        // What of a copy is its check.
        ["check", copy] => drop(check::copy(Path::new(copy), Depth::Full, 0)??),
        ["mirror", from, to] => drop(bakelite_datastore::mirror::refresh(Path::new(from), Path::new(to), 0)??),
        ["change", path, rows] => change(path, rows.parse()?)?,
        ["set", from, folder] => {
            let folder = Path::new(folder);
            let key = age::x25519::Identity::generate();
            let written = load::set(Path::new(from), folder, &key, 1, 0)?;
            bakelite_sys::durable::publish(&written.path, &folder.join("set"))?;
            let text = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_string();
            bakelite_sys::durable::replace(folder.join("key"), text.as_bytes(), 0o600)?;
        }
        ["restore", folder, into] => restore(Path::new(folder), Path::new(into))?,
        _ => return Err("fill PATH MB | write PATH TOLD STOP | one-step FROM TO | copy FROM TO | check COPY | mirror FROM TO | change PATH ROWS | set FROM FOLDER | restore FOLDER INTO".into()),
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap_or("?");
    println!("{:.3} {} {written}", begun.elapsed().as_secs_f64(), peak.trim_end_matches(" kB"));
    Ok(())
}

/// SQLite's own way to copy and nothing else, made durable.
fn one_step(from: &str, to: &str) -> Result<(), Failure> {
    let source = Connection::open(from)?;
    let mut target = Connection::open(to)?;
    Backup::new(&source, &mut target)?.step(-1)?;
    drop(target);
    Ok(std::fs::File::open(to)?.sync_all()?)
}

/// So many new objects, as a cluster gets them between two looks of the keeper.
fn change(path: &str, rows: i64) -> Result<(), Failure> {
    let query = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value) \
                 SELECT name || '-' || (SELECT max(id) FROM kine), 1, 0, 0, 0, 0, value, old_value \
                 FROM kine WHERE name > '/registry/' ORDER BY id LIMIT ?1";
    Connection::open(path)?.execute(query, [rows])?;
    Ok(())
}

fn restore(folder: &Path, into: &Path) -> Result<(), Failure> {
    let key: age::x25519::Identity = std::fs::read_to_string(folder.join("key"))?.trim().parse()?;
    let staged = into.join("staged");
    stage(&folder.join("set"), &[&key], &staged, "")?;
    put_in_place(&Places { live: into.join("live"), staged, aside: into.join("aside") })?;
    Ok(())
}
