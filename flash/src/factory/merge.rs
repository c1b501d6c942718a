//! What installer sticks have recorded, joined with the line's own record: each device once, no row twice. A machine may report over
//! the network before its stick is back; then it is in the record by that, and the stick brings the rest.

use super::Factory;
use super::device::{Device, State};
use crate::error::{FlashError, io_error};
use crate::installer::ticket;
use bakelite_disk::boot;
use bakelite_image::opened::fat;
use bakelite_spec::account::Account;
use bakelite_spec::installer::{self, Attempt, Board, DONE, LIMIT, attempts, plain};
use bakelite_spec::layout::SECTOR;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The port of what an installer stick has made.
const INSTALLER: &str = "installer";

impl Device {
    /// Whether an installer stick has made it.
    pub(super) fn is_of_stick(&self) -> bool {
        self.port == INSTALLER
    }

    /// Whether only its machine's report has told of it so far.
    fn is_of_report(&self) -> bool {
        self.is_of_stick() && self.medium.is_empty()
    }
}

/// What became of one device of a stick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "merged", content = "why")]
pub enum Merged {
    /// The record has it now.
    Taken,
    /// The record had it already.
    Known,
    /// It can't be taken: why, and what to do.
    Refused(String),
}

impl Factory {
    /// Takes over what a stick has recorded: a device, an image of one, or the folder that it is mounted at.
    ///
    /// # Errors
    /// When the stick can't be read, or the record can't be written.
    pub fn merge(&self, stick: &Path) -> Result<Vec<(Attempt, Merged)>, FlashError> {
        let found = read(stick)?;
        found.into_iter().map(|attempt| self.take(&attempt).map(|merged| (attempt, merged))).collect()
    }

    /// Takes a machine that reports with the ticket of one of this line's rows, as an installer stick gives it out; `None` where
    /// no row has the ticket.
    pub(super) fn take_reporting(&self, account: &Account, of: &str) -> Result<Option<Merged>, FlashError> {
        let Some(row) = self.table.rows.iter().find(|row| ticket(row) == of) else { return Ok(None) };
        let attempt = Attempt {
            ticket: of.into(),
            state: installer::State::Written,
            row: row.name.clone(),
            row_sum: row.sum.clone(),
            node: row.node(),
            board: Board { serial: account.serial.clone(), macs: Vec::new() },
            image: account.image.clone(),
            ..Attempt::default()
        };
        self.take(&attempt).map(Some)
    }

    fn take(&self, attempt: &Attempt) -> Result<Merged, FlashError> {
        let refused = |why: String| Ok(Merged::Refused(why));
        let state = match attempt.state {
            installer::State::Reserved | installer::State::Failed => State::Failed,
            installer::State::Finishing => State::Lost,
            installer::State::Written => State::Written,
        };
        let image = &self.baked.manifest.image;
        if attempt.image != *image {
            return refused(format!("it got the image {}, and this line's is {image}", attempt.image));
        }
        let Some(row) = self.table.rows.iter().find(|row| row.name == attempt.row) else {
            return refused(match attempt.row.as_str() {
                "" => "its stick had no table, so it has no row".into(),
                name => format!("this line's table has no row {name}"),
            });
        };
        if row.sum != attempt.row_sum {
            return refused(format!("row {} is another one in this line's table by now: install it again", row.name));
        }
        let record = self.record();
        let known = record.by_ticket(&attempt.ticket)?;
        if let Some(known) = &known {
            let is_other = is_other(known, attempt) && known.state != State::Failed;
            if is_other && state != State::Failed {
                let (one, other) = (&known.attachment, attachment(attempt));
                return refused(format!(
                    "row {} was given to {one} and to {other}: one of them has to be installed anew",
                    row.name
                ));
            }
            // Its report has come first: what became of the machine is known, and how it was made isn't.
            if !is_other && known.is_of_report() && state != State::Failed {
                let (state, why) = (known.state, known.why.clone());
                record.adopt(&Device { why, ..device(attempt, state, &self.line.sha256) })?;
                return Ok(Merged::Taken);
            }
            // What its machine has said of itself counts more than what a stick has.
            if is_other || known.state == state || matches!(known.state, State::Passed | State::Rejected) {
                return Ok(Merged::Known);
            }
        }
        let holder = record
            .all()?
            .into_iter()
            .find(|device| device.row == row.name && device.state != State::Failed && device.ticket != attempt.ticket);
        if let Some(holder) = holder.filter(|_| state != State::Failed) {
            let where_to = format!("{} ({})", holder.port, [holder.medium, holder.attachment].concat());
            return refused(format!(
                "row {} was given to {where_to} as well: one of both has to be made anew",
                row.name
            ));
        }
        record.adopt(&device(attempt, state, &self.line.sha256))?;
        Ok(Merged::Taken)
    }
}

/// Whether an attempt is at another machine than the one that the record has for its ticket.
fn is_other(known: &Device, attempt: &Attempt) -> bool {
    match (known.serial.as_deref(), attempt.board.serial.as_str()) {
        (Some(one), other) if !other.is_empty() => plain(one) != plain(other),
        // A report names no MAC address.
        _ if known.is_of_report() || attempt.medium.is_empty() => false,
        _ => known.attachment != attachment(attempt),
    }
}

/// The machine, as the record tells one plugging in from another.
fn attachment(attempt: &Attempt) -> String {
    attempt.board.words()
}

fn device(attempt: &Attempt, state: State, image: &str) -> Device {
    let cut = match state {
        State::Lost => {
            "cut while its first MiB was written: it may boot. Start it from the stick again, or destroy its disk"
        }
        State::Failed if attempt.why.is_empty() => "cut while it was written; it does not boot",
        _ => "",
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let is_done = attempt.state >= installer::State::Finishing;
    Device {
        id: 0,
        row: attempt.row.clone(),
        row_sum: attempt.row_sum.clone(),
        node: attempt.node.clone(),
        ticket: attempt.ticket.clone(),
        state,
        port: INSTALLER.into(),
        attachment: attachment(attempt),
        medium: attempt.medium.clone(),
        image: image.into(),
        operator: String::new(),
        began: attempt.began,
        ended: (attempt.ended > 0).then_some(attempt.ended),
        written: is_done.then(|| number(attempt.written)),
        write_seconds: is_done.then_some(attempt.seconds),
        verified: is_done.then(|| number(attempt.written)),
        verify_seconds: None,
        disk: Some(attempt.disk.clone()).filter(|disk| !disk.is_empty()),
        why: if attempt.why.is_empty() { cut.into() } else { attempt.why.clone() },
        label: None,
        reported: None,
        heard: None,
        serial: Some(attempt.board.serial.clone()).filter(|serial| !serial.is_empty()),
        merged: None,
    }
}

/// All attempts that a stick has recorded.
fn read(stick: &Path) -> Result<Vec<Attempt>, FlashError> {
    let files = if stick.is_dir() { in_folder(stick)? } else { on_medium(stick)? };
    if files.is_empty() {
        let problem = "no installer stick's record is on it; name the stick, an image of it, or where it is mounted";
        return Err(FlashError::Line { path: stick.into(), problem: problem.into() });
    }
    Ok(attempts(files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..]))))
}

fn in_folder(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, FlashError> {
    let folder = root.join(DONE);
    let mut files = BTreeMap::new();
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    for ticket in names(&folder) {
        for name in names(&folder.join(&ticket)) {
            let path = folder.join(&ticket).join(&name);
            if std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LIMIT) {
                let bytes = std::fs::read(&path).map_err(io_error("reading", &path))?;
                files.insert(format!("{ticket}/{name}"), bytes);
            }
        }
    }
    Ok(files)
}

fn on_medium(stick: &Path) -> Result<BTreeMap<String, Vec<u8>>, FlashError> {
    let wrong = |problem: String| FlashError::Line { path: stick.into(), problem };
    let mut file = File::open(stick).map_err(io_error("reading", stick))?;
    let length = file.seek(SeekFrom::End(0)).map_err(io_error("reading", stick))?;
    let (start, size) = boot::partition(&mut file, length / SECTOR).map_err(|error| wrong(error.to_string()))?;
    let read_at = |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, start + at);
    let volume = fat::read(&read_at, size).map_err(|error| wrong(error.to_string()))?;
    let below = |path: &String| path.strip_prefix(DONE)?.strip_prefix('/').map(String::from);
    let records = volume.files.iter().filter(|(_, file)| file.size <= LIMIT);
    let records = records.filter_map(|(path, _)| Some((path, below(path)?)));
    records
        .map(|(path, name)| Ok((name, volume.content(&read_at, path).map_err(io_error("reading", stick))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::Quiet;
    use crate::factory::ports::HostPorts;
    use crate::factory::tests::{Bench, ONCE};
    use crate::installer::rows_of_line;
    use crate::testing::{IMAGE, account};
    use bakelite_spec::seed::{PASS_KEY, Seed};
    use bakelite_trust::pass::{Head, PassKey};
    use installer::State as Step;
    use std::io::Write;

    fn attempt(factory: &Factory, row: usize, serial: &str, state: Step) -> Attempt {
        let row = &factory.table.rows[row];
        Attempt {
            format: 1,
            ticket: format!("t-{}", row.name),
            state,
            row: row.name.clone(),
            row_sum: row.sum.clone(),
            node: row.node(),
            board: Board { serial: serial.into(), macs: Vec::new() },
            medium: "nvme0n1 (20 GiB)".into(),
            image: IMAGE.into(),
            ..Attempt::default()
        }
    }

    /// A mounted stick with these steps, in their order.
    fn stick(steps: &[Attempt]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, step) in steps.iter().enumerate() {
            let path = folder.path().join(DONE).join(Attempt::file(&step.ticket, number + 1));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().write_all(&serde_json::to_vec(step).unwrap()).unwrap();
        }
        folder
    }

    fn merged(factory: &Factory, steps: &[Attempt]) -> Vec<Merged> {
        factory.merge(stick(steps).path()).unwrap().into_iter().map(|(_, merged)| merged).collect()
    }

    fn states(factory: &Factory) -> Vec<(String, State)> {
        factory.devices().unwrap().into_iter().map(|device| (device.row, device.state)).collect()
    }

    #[test]
    fn each_device_comes_into_the_record_once_and_its_row_is_used() {
        let bench = Bench::new(4);
        let factory = bench.open();
        let of = |row, serial, state| attempt(&factory, row, serial, state);
        let first = [of(0, "a", Step::Reserved), of(0, "a", Step::Finishing), of(1, "b", Step::Reserved)];
        assert_eq!(merged(&factory, &first), [Merged::Taken, Merged::Taken]);
        assert_eq!(states(&factory), [("1".into(), State::Lost), ("2".into(), State::Failed)]);
        assert_eq!(merged(&factory, &first), [Merged::Known, Merged::Known]);
        let later = [first[1].clone(), of(0, "a", Step::Written), of(1, "c", Step::Written)];
        assert_eq!(merged(&factory, &later), [Merged::Taken, Merged::Taken]);
        assert_eq!(states(&factory), [("1".into(), State::Written), ("2".into(), State::Written)]);
        // The line goes on with the rows that are left.
        bench.insert(0);
        factory.run(&HostPorts::new(&factory.configuration().ports), &ONCE, &Quiet).unwrap();
        assert_eq!(states(&factory).last(), Some(&("3".into(), State::Written)));
    }

    /// The machine with a row of a stick that was made for this line reports over the network; whether it is answered, and what
    /// is told.
    fn reports(factory: &Factory, row: usize, serial: &str, written: i64) -> (bool, String) {
        let appliance = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        appliance.as_file().write_all(b"board: qemu-x86_64\nk3s: none\n").unwrap();
        let (rows, image) = rows_of_line(&factory.line.path, appliance.path()).unwrap();
        assert_eq!(image, IMAGE);
        let seed = Seed::parse(rows.rows[row].seed.as_bytes()).unwrap();
        let key = PassKey::parse(&seed.secrets[PASS_KEY]).unwrap();
        let account = Account { written, serial: serial.into(), ..account(&seed) };
        let report = serde_json::to_vec(&account).unwrap();
        let reply = factory.heard(&Head::of(&key, &rows.rows[row].ticket, &report), &report).unwrap().unwrap();
        (!reply.line.is_empty(), serde_json::to_string(&reply.news).unwrap())
    }

    #[test]
    fn a_machine_of_a_stick_reports_to_the_line_before_its_stick_comes_back_or_after_it() {
        let bench = Bench::with(4, "pass: {listen: '127.0.0.1:0', address: '127.0.0.1:7411', within: 1d}\n");
        let factory = bench.open();
        let (is_answered, news) = reports(&factory, 0, "pf-1", 10);
        assert!(is_answered && news.contains("judged") && news.contains("good"), "{news}");
        let of = |row: usize, serial, state| {
            let ticket = ticket(&factory.table.rows[row]);
            Attempt { ticket, ..attempt(&factory, row, serial, state) }
        };
        // A copy of the stick, in another machine.
        let (is_answered, news) = reports(&factory, 0, "pf-9", 20);
        assert!(!is_answered && news.contains("given to the board pf-1, and the board pf-9"), "{news}");
        let other = merged(&factory, &[of(0, "pf-9", Step::Written)]);
        assert!(matches!(&other[..], [Merged::Refused(why)] if why.contains("given to")), "{other:?}");
        assert_eq!(merged(&factory, &[of(0, "PF1", Step::Written)]), [Merged::Taken]);
        assert_eq!(merged(&factory, &[of(0, "PF1", Step::Written)]), [Merged::Known]);
        let device = &factory.devices().unwrap()[0];
        assert_eq!((device.state, device.medium.as_str()), (State::Passed, "nvme0n1 (20 GiB)"));
        assert_eq!(device.heard.as_deref(), Some("network"));
        // What its stick has recorded as failed was done once more, and came up.
        assert_eq!(merged(&factory, &[of(1, "pf-2", Step::Failed)]), [Merged::Taken]);
        assert!(reports(&factory, 1, "pf-2", 10).0);
        assert_eq!(merged(&factory, &[of(2, "pf-3", Step::Written)]), [Merged::Taken]);
        assert_eq!(
            factory.record().overdue(3600, "late").unwrap(),
            [],
            "the stick's clock says nothing of how late it is"
        );
        assert!(reports(&factory, 2, "pf-3", 10).0);
        let rows = [("1", State::Passed), ("2", State::Passed), ("3", State::Passed)];
        assert_eq!(states(&factory), rows.map(|(row, state)| (row.to_string(), state)));
        // A row that a card has is no other machine's.
        bench.insert(3);
        factory.run(&HostPorts::new(&factory.configuration().ports), &ONCE, &Quiet).unwrap();
        let (is_answered, news) = reports(&factory, 3, "pf-4", 10);
        assert!(!is_answered && news.contains("row 4 was given to file:"), "{news}");
        assert_eq!(states(&factory).last(), Some(&("4".into(), State::Written)));
    }

    #[test]
    fn no_row_is_taken_twice_and_what_is_of_another_line_is_refused() {
        let bench = Bench::new(3);
        bench.insert(0);
        let factory = bench.open();
        factory.run(&HostPorts::new(&factory.configuration().ports), &ONCE, &Quiet).unwrap();
        let refused = |attempt: Attempt| match &merged(&factory, &[attempt])[..] {
            [Merged::Refused(why)] => why.clone(),
            other => panic!("{other:?}"),
        };
        let of = |row, serial| attempt(&factory, row, serial, Step::Written);
        assert!(refused(of(0, "a")).contains("row 1 was given to file:"));
        assert_eq!(merged(&factory, &[of(1, "a")]), [Merged::Taken]);
        assert!(refused(of(1, "b")).contains("to serial a and to serial b"), "two sticks with one table");
        assert!(refused(Attempt { image: "other".into(), ..of(2, "a") }).contains("this line's is"));
        assert!(refused(Attempt { row_sum: "other".into(), ..of(2, "a") }).contains("another one"));
        assert!(refused(Attempt { row: "99".into(), ..of(2, "a") }).contains("no row 99"));
        assert!(refused(Attempt { row: String::new(), ..of(2, "a") }).contains("no table"));
        assert_eq!(states(&factory).len(), 2);
        assert!(factory.merge(tempfile::tempdir().unwrap().path()).unwrap_err().to_string().contains("no installer"));
    }
}
