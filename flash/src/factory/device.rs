//! What a line's record knows of one attempt at a medium.

use rusqlite::Row;
use serde::Serialize;

/// Its columns, in the order in which [`Device::read`] takes them.
pub(super) const COLUMNS: &str =
    "id, row, row_sum, node, ticket, state, port, attachment, medium, image, operator, began, ended, written,
    write_seconds, verified, verify_seconds, disk, why, label, reported, heard, serial, merged";

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being written, and doesn't boot.
    Reserved,
    /// Its first MiB is being written: it may boot.
    Finishing,
    /// It was written and read back; its machine hasn't reported yet.
    Written,
    /// It doesn't boot; its row is free again.
    Failed,
    /// Nobody knows whether it boots: a cut came while its first MiB was written. Its row is not given out again.
    Lost,
    /// Its own report says that it is good.
    Passed,
    /// Its own report says that it isn't.
    Rejected,
}

impl State {
    const ALL: [Self; 7] =
        [Self::Reserved, Self::Finishing, Self::Written, Self::Failed, Self::Lost, Self::Passed, Self::Rejected];

    /// Its name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Finishing => "finishing",
            Self::Written => "written",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Passed => "passed",
            Self::Rejected => "rejected",
        }
    }
}

/// One attempt at a medium, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// Its number in the record.
    pub id: i64,
    /// The row of the table.
    pub row: String,
    /// The row's sum.
    pub row_sum: String,
    /// The node's name, where the row says it.
    pub node: String,
    /// By which it is known when it reports.
    pub ticket: String,
    /// How far it has come.
    pub state: State,
    /// Where it was plugged in.
    pub port: String,
    /// Which plugging in that was.
    pub attachment: String,
    /// The medium in words.
    pub medium: String,
    /// The sum of the image's file.
    pub image: String,
    /// Who worked.
    pub operator: String,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When its writing ended.
    pub ended: Option<i64>,
    /// Bytes that were written.
    pub written: Option<i64>,
    /// In so many seconds.
    pub write_seconds: Option<f64>,
    /// Bytes that were read back.
    pub verified: Option<i64>,
    /// In so many seconds.
    pub verify_seconds: Option<f64>,
    /// The disk's GUID.
    pub disk: Option<String>,
    /// What was wrong.
    pub why: String,
    /// Its label, once that was printed.
    pub label: Option<String>,
    /// When its machine reported.
    pub reported: Option<i64>,
    /// How that came: by its `medium`, or over the `network`.
    pub heard: Option<String>,
    /// The serial number of the machine's board, as it says.
    pub serial: Option<String>,
    /// When it came into the record, of a machine that an installer stick has made.
    pub merged: Option<i64>,
}

impl Device {
    /// Reads one from the record, by [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let state: String = row.get(5)?;
        Ok(Self {
            id: row.get(0)?,
            row: row.get(1)?,
            row_sum: row.get(2)?,
            node: row.get(3)?,
            ticket: row.get(4)?,
            // The table admits no other.
            state: State::ALL.into_iter().find(|known| known.name() == state).unwrap_or(State::Lost),
            port: row.get(6)?,
            attachment: row.get(7)?,
            medium: row.get(8)?,
            image: row.get(9)?,
            operator: row.get(10)?,
            began: row.get(11)?,
            ended: row.get(12)?,
            written: row.get(13)?,
            write_seconds: row.get(14)?,
            verified: row.get(15)?,
            verify_seconds: row.get(16)?,
            disk: row.get(17)?,
            why: row.get(18)?,
            label: row.get(19)?,
            reported: row.get(20)?,
            heard: row.get(21)?,
            serial: row.get(22)?,
            merged: row.get(23)?,
        })
    }
}

/// How a report came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// On the machine's medium, or as a file that was brought.
    Medium,
    /// Over the network.
    Network,
}

impl Heard {
    /// Its name in the record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Medium => "medium",
            Self::Network => "network",
        }
    }
}

/// Where a medium is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The port.
    pub port: String,
    /// Which plugging in.
    pub attachment: String,
    /// The medium in words.
    pub medium: String,
}
