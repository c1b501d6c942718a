//! What an installer stick carries besides its image: its table of machines, and what it has done with each.
//!
//! The table is made by the workshop of a CSV, each seed checked there; it is signed with everything else. What was done is the
//! stick's own record: one folder an attempt, and in it one file a step that is never written again, so that a cut leaves all
//! that came before it (a FAT has no journal). The line's record takes it over (`bakelite factory merge`).

use serde::{Deserialize, Serialize};

/// The table's place on the stick.
pub const ROWS: &str = "installer/rows.json";
/// The folder of what was done, by ticket.
pub const DONE: &str = "installed";
/// A longer file is none of ours.
pub const LIMIT: u64 = 1 << 20;
/// The version of both formats.
pub const FORMAT: u32 = 1;

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// [`FORMAT`].
    pub format: u32,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// One machine's row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// A sum over all of it, by which a changed row is known.
    pub sum: String,
    /// The node, where the row says it.
    pub node: String,
    /// MAC addresses and serial numbers of the board that it is for, as [`plain`] writes them; any machine without one.
    pub boards: Vec<String>,
    /// By which the machine is known when it reports.
    pub ticket: String,
    /// Its `seed.yaml`, with the ticket.
    pub seed: String,
}

/// A board, as far as one is told from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Board {
    /// The maker's serial number; empty where there is none worth the name.
    pub serial: String,
    /// The MAC addresses of its wired links.
    pub macs: Vec<String>,
}

impl Board {
    /// Whether both are the same machine.
    pub fn is(&self, other: &Self) -> bool {
        let same = !self.serial.is_empty() && plain(&self.serial) == plain(&other.serial);
        same || self.macs.iter().any(|mac| other.macs.contains(mac))
    }

    /// Whether a row is for this one.
    pub fn is_named(&self, row: &Row) -> bool {
        let mut own = self.macs.iter().chain([&self.serial]).filter(|word| !word.is_empty()).map(|word| plain(word));
        own.any(|word| row.boards.contains(&word))
    }

    /// For a person.
    pub fn words(&self) -> String {
        let serial = if self.serial.is_empty() { "no serial number".into() } else { format!("serial {}", self.serial) };
        if self.macs.is_empty() { serial } else { format!("{serial}, MAC {}", self.macs.join(", ")) }
    }
}

/// A MAC address or serial number without what people write them differently with.
pub fn plain(word: &str) -> String {
    word.to_lowercase().replace([':', '-'], "")
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The row is this machine's; its disk doesn't boot.
    #[default]
    Reserved,
    /// It doesn't boot, and why is said.
    Failed,
    /// Its partition table is about to be written: it may boot.
    Finishing,
    /// It was written and read back.
    Written,
}

/// One attempt at a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Attempt {
    /// [`FORMAT`].
    pub format: u32,
    /// By which the machine is known when it reports.
    pub ticket: String,
    /// How far it has come.
    pub state: State,
    /// The row of the table; empty where there is none.
    pub row: String,
    /// The row's sum.
    pub row_sum: String,
    /// The node, where the row says it.
    pub node: String,
    /// The machine.
    pub board: Board,
    /// Its disk, in words.
    pub medium: String,
    /// The image's id.
    pub image: String,
    /// The disk's new GUID.
    pub disk: String,
    /// When it began, in seconds since 1970 by the machine's own clock, which may be wrong.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// Bytes of the system that were written.
    pub written: u64,
    /// In so many seconds, boot partition and table included.
    pub seconds: f64,
    /// What was wrong.
    pub why: String,
}

impl Attempt {
    /// The file of a step, below [`DONE`]. `number` counts the steps of a ticket, so that none is written again.
    pub fn file(ticket: &str, number: usize) -> String {
        format!("{ticket}/{number:03}.json")
    }
}

/// What became of each ticket: the last of its steps that is whole. `files` are the contents of a folder's files by their paths
/// below [`DONE`].
pub fn attempts<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Attempt> {
    let mut last: std::collections::BTreeMap<&str, (&str, Attempt)> = std::collections::BTreeMap::new();
    for (path, bytes) in files {
        let Some((ticket, name)) = path.split_once('/').filter(|(_, name)| name.ends_with(".json")) else { continue };
        // A cut while one was written leaves half of it; the one before it counts.
        let Ok(attempt) = serde_json::from_slice::<Attempt>(bytes) else { continue };
        let is_its = attempt.ticket == ticket && attempt.format <= FORMAT;
        if is_its && last.get(ticket).is_none_or(|(before, _)| *before < name) {
            last.insert(ticket, (name, attempt));
        }
    }
    last.into_values().map(|(_, attempt)| attempt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_step_of_each_ticket_counts() {
        let step = |ticket: &str, state| {
            serde_json::to_vec(&Attempt { ticket: ticket.into(), state, ..Attempt::default() }).unwrap()
        };
        let (one, two, other) =
            (step("t-1", State::Reserved), step("t-1", State::Finishing), step("t-2", State::Written));
        let files: [(&str, &[u8]); 6] = [
            ("t-1/002.json", &two),
            ("t-1/001.json", &one),
            ("t-1/003.json", &two[..20]),
            ("t-2/001.json", &other),
            ("t-3/001.json", &other),
            ("readme.txt", b"x"),
        ];
        let found = attempts(files.into_iter());
        let states: Vec<_> = found.iter().map(|attempt| (attempt.ticket.as_str(), attempt.state)).collect();
        assert_eq!(states, [("t-1", State::Finishing), ("t-2", State::Written)]);
        assert_eq!(Attempt::file("t-1", 3), "t-1/003.json");
    }

    #[test]
    fn a_board_is_known_by_its_serial_or_a_mac() {
        let board = |serial: &str, macs: &[&str]| Board {
            serial: serial.into(),
            macs: macs.iter().map(ToString::to_string).collect(),
        };
        let one = board("PF-12", &["dc:a6:32:01:02:03"]);
        assert!(one.is(&board("pf-12", &[])) && one.is(&board("", &["dc:a6:32:01:02:03"])));
        assert!(!board("", &[]).is(&board("", &[])) && !one.is(&board("pf-13", &["dc:a6:32:01:02:04"])));
        let row = |boards: &[&str]| Row { boards: boards.iter().map(|word| plain(word)).collect(), ..Row::default() };
        assert!(one.is_named(&row(&["DC-A6-32-01-02-03"])) && one.is_named(&row(&["pf12"])));
        assert!(!one.is_named(&row(&[])) && !board("", &[]).is_named(&row(&[""])));
        assert_eq!(one.words(), "serial PF-12, MAC dc:a6:32:01:02:03");
    }
}
