//! What installer sticks have recorded, joined with the line's own record: each device once, no row twice.

use super::Factory;
use super::record::{Device, State};
use crate::error::{FlashError, io_error};
use bakelite_disk::boot;
use bakelite_image::opened::fat;
use bakelite_spec::installer::{self, Attempt, DONE, LIMIT, attempts};
use bakelite_spec::layout::SECTOR;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

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
            let is_other = known.attachment != attachment(attempt) && known.state != State::Failed;
            if is_other && state != State::Failed {
                let (one, other) = (&known.attachment, attachment(attempt));
                return refused(format!(
                    "row {} was given to {one} and to {other}: one of them has to be installed anew",
                    row.name
                ));
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
            let where_to = format!("{} ({})", holder.port, holder.medium);
            return refused(format!(
                "row {} was given to {where_to} as well: one of both has to be made anew",
                row.name
            ));
        }
        record.adopt(&device(attempt, state, &self.line.sha256))?;
        Ok(Merged::Taken)
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
        port: "installer".into(),
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
        serial: None,
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
    use crate::testing::IMAGE;
    use bakelite_spec::installer::Board;
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
