//! A line that flashes media all day: an image that is pinned, a table of machines, ports that are watched, and a record.
//!
//! The record is the truth of who got which row: what it says is durable before a medium becomes one that boots, and a medium is
//! wiped before its row is given to another. So no kill, crash or power cut gives one identity to two machines. A device is
//! good when its own report says so, not when its card was written.

pub mod device;
pub mod export;
mod judge;
pub mod line;
mod listen;
mod merge;
pub mod ports;
pub mod record;
mod run;
#[cfg(test)]
mod tests;

pub use judge::Verdict;
pub use merge::Merged;
pub use run::Mode;

use crate::baked::Baked;
use crate::error::{FlashError, io_error};
use crate::flash::{FlashEvent, Listen};
use crate::image::Image;
use crate::table::Table;
use bakelite_spec::account::Account;
use bakelite_spec::appliance::Payload;
use bakelite_spec::installer::plain;
use bakelite_trust::pass::{Answer, Head, PassKey};
use device::{Device, Heard, State};
use line::Line;
use ports::Ports;
use record::Record;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What happens on a line.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum FactoryEvent {
    /// A medium is being flashed for a row.
    Began {
        /// The row.
        row: String,
        /// Where.
        port: String,
        /// The medium.
        medium: String,
    },
    /// It is over.
    Ended {
        /// The row.
        row: String,
        /// Where.
        port: String,
        /// Whether the medium is good.
        good: bool,
        /// What was done, or what was wrong.
        text: String,
    },
    /// A device's own report was looked at.
    Judged {
        /// The row.
        row: String,
        /// What came of it.
        verdict: Verdict,
    },
    /// A machine hasn't reported within its time.
    Silent {
        /// The row.
        row: String,
        /// What is missing.
        text: String,
    },
    /// Something that a person should know.
    Note {
        /// In words.
        text: String,
    },
}

/// Who is told.
pub trait Told: Listen {
    /// Takes an event, from any thread.
    fn line(&self, event: &FactoryEvent);
}

/// A line, ready to work.
pub struct Factory {
    line: Line,
    table: Table,
    image: Image,
    baked: Baked,
    record: Mutex<Record>,
    /// Of which machines' keys are made, where they report over the network.
    key: Option<PassKey>,
}

impl Factory {
    /// Opens a line: image, table and record, all checked.
    ///
    /// # Errors
    /// What is wrong; or that another one works on this line.
    pub fn open(path: &Path, operator: Option<String>) -> Result<Self, FlashError> {
        let mut line = Line::read(path)?;
        line.operator = operator.or(line.operator).or_else(|| std::env::var("USER").ok());
        let image = Image::open(&line.image, line.bmap.as_deref())?;
        let sum = sha256(&line.image)?;
        if sum != line.sha256 {
            let problem = format!("sha256: {} has {sum}, so it is not the image that was pinned", line.image.display());
            return Err(FlashError::Line { path: path.into(), problem });
        }
        let table = Table::read(&line.rows)?;
        let baked = Baked::read(&image)?;
        for row in &table.rows {
            let wrong =
                |error| FlashError::Table { path: line.rows.clone(), problem: format!("row {}: {error}", row.name) };
            line.seed(row, "check", None)?.check(&baked.effective, &baked.manifest.board).map_err(wrong)?;
        }
        let record = Mutex::new(Record::open(&line.record)?);
        let key = line.key()?;
        Ok(Self { line, table, image, baked, record, key })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works: flashes what comes to the ports, judges what comes back, until all rows are used or `mode` says so.
    ///
    /// # Errors
    /// When the record can't be read or written. A bad medium is none.
    pub fn run(&self, ports: &dyn Ports, mode: &Mode, told: &dyn Told) -> Result<(), FlashError> {
        run::run(self, ports, mode, told)
    }

    /// Judges a medium that came back from its machine, or a report that was brought by other means.
    ///
    /// # Errors
    /// When there is no report of a machine of this line on it.
    pub fn pass(&self, path: &Path) -> Result<(Device, Verdict), FlashError> {
        let account = judge::report(path)?;
        self.judge(&account, Heard::Medium)
    }

    fn judge(&self, account: &Account, heard: Heard) -> Result<(Device, Verdict), FlashError> {
        let ticket = account.seed.as_ref().map(|seed| seed.ticket.as_str()).unwrap_or_default();
        let record = self.record();
        let device = record.by_ticket(ticket)?.ok_or_else(|| FlashError::Line {
            path: self.line.path.clone(),
            problem: format!("{} reports with a ticket that this line didn't give out", account.node),
        })?;
        let row = self.table.rows.iter().find(|row| row.name == device.row);
        let board = row.and_then(|row| row.columns.get("serial")).map(String::as_str);
        let wanted = judge::Wanted { image: &self.baked.manifest.image, has_payload: has_payload(&self.baked), board };
        let verdict = judge::judge(account, &device, &wanted);
        match &verdict {
            Verdict::Good => record.report(device.id, State::Passed, "", account, heard)?,
            Verdict::Bad(why) => record.report(device.id, State::Rejected, why, account, heard)?,
            Verdict::NotYet(_) => {}
        }
        Ok((device, verdict))
    }

    /// Judges a report that came over the network, if its machine has proved it. One that says nothing later than what the record
    /// has changes nothing, whoever has sent it again. A machine of an installer stick comes into the record by it.
    fn heard(&self, head: &Head, report: &[u8]) -> Result<Option<Reply>, FlashError> {
        let Some(key) = self.key.as_ref().map(|key| key.of_machine(&head.ticket)) else { return Ok(None) };
        if !head.is_of(&key, report) {
            return Ok(None);
        }
        let Ok(account) = serde_json::from_slice::<Account>(report) else { return Ok(None) };
        if account.seed.as_ref().is_none_or(|seed| seed.ticket != head.ticket) {
            return Ok(None);
        }
        let known = match self.made(&account, &head.ticket)? {
            Ok(Some(known)) => known,
            Ok(None) => return Ok(None),
            Err(text) => return Ok(Some(Reply { line: String::new(), news: Some(FactoryEvent::Note { text }) })),
        };
        let before = self.record().report_of(known.id)?;
        if before.is_some_and(|before| account.written <= before.written) {
            let answer = if known.state == State::Passed { Answer::Good } else { Answer::Bad };
            return Ok(Some(Reply { line: head.answer(&key, answer), news: None }));
        }
        let (device, verdict) = self.judge(&account, Heard::Network)?;
        let answer = match verdict {
            Verdict::Good => Answer::Good,
            Verdict::NotYet(_) => Answer::NotYet,
            Verdict::Bad(_) => Answer::Bad,
        };
        let news = FactoryEvent::Judged { row: device.row, verdict };
        Ok(Some(Reply { line: head.answer(&key, answer), news: Some(news) }))
    }

    /// What the record has of a machine that reports; `Err`: why it can't be that machine.
    fn made(&self, account: &Account, ticket: &str) -> Result<Result<Option<Device>, String>, FlashError> {
        let known = self.record().by_ticket(ticket)?;
        // What was never written can't have come up.
        let is_out = |device: &Device| !matches!(device.state, State::Reserved | State::Finishing | State::Failed);
        let Some(known) = known.filter(is_out) else {
            return Ok(match self.take_reporting(account, ticket)? {
                Some(Merged::Refused(why)) => Err(format!("a machine of an installer stick has reported, and {why}")),
                Some(_) => Ok(self.record().by_ticket(ticket)?),
                None => Ok(None),
            });
        };
        // A copy of a stick gives a row out once more, and both machines prove the same.
        let own = known.serial.as_deref().filter(|_| known.is_of_stick() && !account.serial.is_empty());
        Ok(match own.filter(|own| plain(own) != plain(&account.serial)) {
            Some(own) => Err(format!(
                "row {} was given to the board {own}, and the board {} reports with it as well: install one of them anew",
                known.row, account.serial
            )),
            None => Ok(Some(known)),
        })
    }

    /// All that the record has, the oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn devices(&self) -> Result<Vec<Device>, FlashError> {
        self.record().all()
    }

    /// The line's own words.
    pub fn configuration(&self) -> &Line {
        &self.line
    }

    /// How many rows there are, and how many are free.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn rows(&self) -> Result<(usize, usize), FlashError> {
        let used = self.record().used()?;
        let free = self.table.rows.iter().filter(|row| !used.contains(&row.name)).count();
        Ok((self.table.rows.len(), free))
    }
}

fn has_payload(baked: &Baked) -> bool {
    baked.manifest.payload.kind != Payload::None
}

/// What comes of a report over the network.
struct Reply {
    /// The answer to the machine; without one it tries again.
    line: String,
    /// What wasn't known of it.
    news: Option<FactoryEvent>,
}

/// The sum of a file, as `sha256sum` writes it.
///
/// # Errors
/// When it can't be read.
pub fn sha256(path: &Path) -> Result<String, FlashError> {
    let mut file = File::open(path).map_err(io_error("reading", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(io_error("reading", path))? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Tells nobody.
pub struct Quiet;

impl Listen for Quiet {
    fn event(&self, _: &FlashEvent) {}
}

impl Told for Quiet {
    fn line(&self, _: &FactoryEvent) {}
}
