//! What makes a stick an installer: the machine's row of the table, a person's yes, and the record of what was done.
//!
//! Each step of the record is durable on the stick before the disk is brought further (law 3: a file that was written is never
//! written again), so that no cut gives one row to two machines.

use crate::{MedicError, Stick, say};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::installer::{Attempt, Board, DONE, FORMAT, LIMIT, ROWS, Row, Rows, State, attempts};
use bakelite_sys::{SysError, durable, link, machine, names_in, read_text, terminal, tool};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long loading drivers may take.
const LIMIT_OF_DRIVERS: Duration = Duration::from_secs(60);
/// How long a network card may take to appear after its driver has come.
const CARD: Duration = Duration::from_secs(3);

/// The rows of the stick's table; none where it has no table.
pub(crate) fn rows(stick: &Stick) -> Result<Vec<Row>, MedicError> {
    let Some(file) = stick.manifest.files.iter().find(|file| file.path == ROWS) else { return Ok(Vec::new()) };
    let rows: Rows = serde_json::from_slice(&stick.read(file)?).map_err(MedicError::Rows)?;
    Ok(rows.rows)
}

/// What the stick has done so far.
pub(crate) fn done(stick: &Stick) -> Vec<Attempt> {
    let folder = stick.root.join(DONE);
    let paths = names_in(&folder).into_iter().flat_map(|ticket| {
        let files = names_in(folder.join(&ticket)).into_iter();
        files.map(move |name| format!("{ticket}/{name}"))
    });
    let read = |path: String| {
        let mut bytes = Vec::new();
        File::open(folder.join(&path)).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes)).ok()?;
        Some((path, bytes))
    };
    let files: Vec<(String, Vec<u8>)> = paths.filter_map(read).collect();
    attempts(files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])))
}

/// This machine, with its network cards: their drivers are none that a start from a stick needs.
pub(crate) fn board() -> Board {
    load_drivers();
    let macs = || -> Vec<String> { link::wired(Path::new("/")).into_iter().map(|link| link.mac).collect() };
    let begun = machine::uptime();
    while macs().is_empty() && machine::uptime() - begun < CARD {
        std::thread::sleep(Duration::from_millis(100));
    }
    Board { serial: machine::serial(Path::new("/")), macs: macs() }
}

/// Loads the drivers of network cards and of what a person types on. What a driver brings may ask for another one.
fn load_drivers() {
    let mut loaded: Vec<String> = Vec::new();
    for _ in 0..3 {
        let mut asked: Vec<String> =
            aliases(Path::new("/")).into_iter().filter(|alias| !loaded.contains(alias)).collect();
        asked.sort();
        asked.dedup();
        if asked.is_empty() {
            return;
        }
        let words: Vec<&str> = ["-a", "-b", "-q"].into_iter().chain(asked.iter().map(String::as_str)).collect();
        // A device that nobody has a driver for is no reason to stop.
        if let Err(error) = tool::run("modprobe", &words, LIMIT_OF_DRIVERS) {
            log::info!("{}", bakelite_sys::words(&error));
        }
        loaded.extend(asked);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The aliases of such devices.
fn aliases(root: &Path) -> Vec<String> {
    let buses = root.join("sys/bus");
    let devices = names_in(&buses).into_iter().flat_map(|bus| {
        let folder = buses.join(bus).join("devices");
        names_in(&folder).into_iter().map(move |name| folder.join(name).join("modalias"))
    });
    let alias = |path: PathBuf| read_text(path).ok().map(|text| text.trim().to_string());
    devices.filter_map(alias).filter(|alias| is_wanted(alias)).collect()
}

/// PCI's class of network cards, virtio's, device trees'; USB tells what it is only by its interfaces.
fn is_wanted(alias: &str) -> bool {
    let is_pci = alias.starts_with("pci:") && alias.contains("bc02");
    is_pci || ["virtio:d00000001v", "usb:", "hid:", "of:Nethernet"].iter().any(|start| alias.starts_with(start))
}

/// Asks a person at any of the machine's consoles; whether the answer is yes. Waits as long as it takes.
pub(crate) fn ask(question: &str) -> bool {
    say(question);
    let active = read_text("/sys/class/tty/console/active").unwrap_or_default();
    let consoles: Vec<PathBuf> = active.split_whitespace().map(|name| Path::new("/dev").join(name)).collect();
    let answer = terminal::first_line(&consoles).unwrap_or_default();
    let is_yes = answer.eq_ignore_ascii_case("yes");
    say(if is_yes { "answered: yes" } else { "answered: no" });
    is_yes
}

/// An attempt, from its first step on.
pub(crate) fn begin(row: Option<&Row>, board: Board, medium: String, image: String) -> Result<Attempt, MedicError> {
    let row = row.cloned().unwrap_or_default();
    let ticket = match row.ticket.as_str() {
        "" => {
            let random = machine::random()?;
            format!("t-{}", hexadecimal(&random[..8]))
        }
        ticket => ticket.into(),
    };
    let Row { name, sum, node, .. } = row;
    let began = machine::clock();
    let (state, format) = (State::Reserved, FORMAT);
    let about = Attempt { row: name, row_sum: sum, node, board, medium, image, ..Attempt::default() };
    Ok(Attempt { format, ticket, state, began, ..about })
}

/// Writes an attempt's next step onto the stick, durably.
pub(crate) fn note(stick: &Stick, attempt: &Attempt) -> Result<(), MedicError> {
    let folder = stick.root.join(DONE);
    let number = names_in(folder.join(&attempt.ticket)).len() + 1;
    let path = folder.join(Attempt::file(&attempt.ticket, number));
    let bytes = serde_json::to_vec_pretty(attempt).unwrap_or_default();
    stick.change(|| -> Result<(), SysError> {
        durable::make_folder(path.parent().unwrap_or(&folder))?;
        durable::write_whole(&path, &bytes, 0o644)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_cards_and_keyboards_are_loaded_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let put = |bus: &str, name: &str, alias: &str| {
            let folder = root.path().join("sys/bus").join(bus).join("devices").join(name);
            durable::make_folder(&folder).unwrap();
            durable::replace(folder.join("modalias"), alias.as_bytes(), 0o444).unwrap();
        };
        put("pci", "0", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n");
        put("pci", "1", "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00\n");
        put("virtio", "0", "virtio:d00000001v00001AF4\n");
        put("virtio", "1", "virtio:d00000002v00001AF4\n");
        put("usb", "0", "usb:v0627p0001d0000dc00dsc00dp00ic03isc01ip01in00\n");
        let mut found = aliases(root.path());
        found.sort();
        let starts: Vec<&str> = found.iter().map(|alias| &alias[..5]).collect();
        assert_eq!(starts, ["pci:v", "usb:v", "virti"], "{found:?}");
        assert!(found[0].contains("bc02") && found[2].contains("d00000001"));
    }
}
