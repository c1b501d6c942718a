//! The line at work: what comes to the ports is judged or flashed, each medium once, and all of it is recorded first.
//!
//! The order is the point. A row is reserved durably before a byte is written; `finishing` is durable before the medium
//! becomes one that boots; and a row goes to another medium only when the one that had it was wiped or never booted.

use super::device::{Device, Heard, Place, State};
use super::judge;
use super::listen::Ear;
use super::ports::{Ports, Present};
use super::{Factory, FactoryEvent, Told};
use crate::error::FlashError;
use crate::flash::{Done, Job, flash};
use crate::table::Row;
use bakelite_disk::press::{Target, wipe};
use bakelite_spec::causes::words;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often the ports are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a line works.
#[derive(Clone, Debug, Default)]
pub struct Mode {
    /// Only what is plugged in now.
    pub once: bool,
    /// The row for the next medium, by its name, or its board's MAC or serial number.
    pub board: Option<String>,
}

/// A medium that is about to be flashed.
struct Work {
    present: Present,
    medium: Box<dyn Target + Send>,
    id: i64,
    row: Row,
    ticket: String,
}

/// Works until all rows are used, or what is plugged in is done.
///
/// # Errors
/// When the record can't be read or written.
pub fn run(factory: &Factory, ports: &dyn Ports, mode: &Mode, told: &dyn Told) -> Result<(), FlashError> {
    let ear = factory.line.pass.as_ref().map(Ear::open).transpose()?;
    work(factory, ports, mode, told, ear.as_ref())
}

/// The same with an ear that is open.
pub(super) fn work(
    factory: &Factory,
    ports: &dyn Ports,
    mode: &Mode,
    told: &dyn Told,
    ear: Option<&Ear>,
) -> Result<(), FlashError> {
    let running = AtomicUsize::new(0);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut board = mode.board.clone();
    label(factory, told)?;
    std::thread::scope(|threads| {
        loop {
            let present = ports.look();
            // What was pulled out may come back.
            seen.retain(|port, _| present.iter().any(|one| one.port == *port));
            let mut batch = Vec::new();
            for one in present {
                if seen.insert(one.port.clone(), one.attachment.clone()).as_ref() == Some(&one.attachment) {
                    continue;
                }
                match take(factory, ports, &one, &mut board, told) {
                    Ok(Some(work)) => batch.push(work),
                    Ok(None) => {}
                    Err(error @ (FlashError::Record { .. } | FlashError::Table { .. })) => return Err(error),
                    Err(error) => note(told, format!("{} ({}): {}", one.port, one.words, words(&error))),
                }
            }
            let began = !batch.is_empty();
            if began {
                running.fetch_add(1, Ordering::SeqCst);
                let running = &running;
                threads.spawn(move || {
                    if let Err(error) = flash_all(factory, ports, batch, told) {
                        note(told, format!("the record: {}", words(&error)));
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            if let Some(ear) = ear {
                ear.hear(factory, told, threads);
                missed(factory, told)?;
            }
            let is_idle = running.load(Ordering::SeqCst) == 0;
            let is_waiting = ear.is_some() && !factory.record().awaited()?.is_empty();
            if mode.once && !began || is_idle && factory.rows()?.1 == 0 && !is_waiting {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    })
}

/// Tells of machines that haven't reported within their time. They still may.
fn missed(factory: &Factory, told: &dyn Told) -> Result<(), FlashError> {
    let Some(pass) = &factory.line.pass else { return Ok(()) };
    let text = format!("no report within {} min", pass.within.0.div_ceil(60));
    let within = i64::try_from(pass.within.0).unwrap_or(i64::MAX);
    for device in factory.record().overdue(within, &text)? {
        told.line(&FactoryEvent::Silent { row: device.row, text: text.clone() });
    }
    Ok(())
}

fn note(told: &dyn Told, text: String) {
    told.line(&FactoryEvent::Note { text });
}

/// What is to be done with a medium that has just come; nothing is flashed yet.
fn take(
    factory: &Factory,
    ports: &dyn Ports,
    present: &Present,
    board: &mut Option<String>,
    told: &dyn Told,
) -> Result<Option<Work>, FlashError> {
    let last = factory.record().at(&present.port, &present.attachment)?;
    if last.as_ref().is_some_and(is_over) {
        // This medium was seen to before this program was started.
        return Ok(None);
    }
    let mut medium = ports.open(present, factory.image.length)?;
    let on_it = judge::look(&mut *medium);
    let known = factory.record().by_ticket(&on_it.ticket)?;
    for device in known.iter().chain(&last) {
        match device.state {
            // It may boot as a machine whose row nobody has been told of: it is wiped, then the row is free.
            State::Lost | State::Finishing => {
                wipe(&mut *medium)?;
                let why = "cut while its first MiB was written; it came back and was wiped";
                factory.record().ended(device.id, State::Failed, why)?;
            }
            State::Written | State::Passed | State::Rejected => {
                came_back(factory, device, &on_it, told)?;
                return Ok(None);
            }
            State::Reserved | State::Failed => {}
        }
    }
    let Some(row) = next_row(factory, board)? else {
        note(told, format!("{} ({}): all rows of the table are used", present.port, present.words));
        return Ok(None);
    };
    let place =
        Place { port: present.port.clone(), attachment: present.attachment.clone(), medium: present.words.clone() };
    let line = &factory.line;
    let operator = line.operator.as_deref().unwrap_or_default();
    let (id, ticket) = factory.record().reserve(&row, &row.node(), &place, &line.sha256, operator)?;
    told.line(&FactoryEvent::Began {
        row: row.name.clone(),
        port: present.port.clone(),
        medium: present.words.clone(),
    });
    Ok(Some(Work { present: present.clone(), medium, id, row, ticket }))
}

/// Whether nothing more is to be done with the medium of an attempt while it stays plugged in.
fn is_over(device: &Device) -> bool {
    // What was cut while it was written is flashed again where it is.
    let was_cut = device.state == State::Failed && device.why.starts_with("cut ");
    !was_cut && !matches!(device.state, State::Lost | State::Reserved | State::Finishing)
}

fn next_row(factory: &Factory, board: &mut Option<String>) -> Result<Option<Row>, FlashError> {
    let used = factory.record().used()?;
    match board.take() {
        Some(word) => {
            let row = factory.table.find(&word)?;
            if used.contains(&row.name) {
                let problem = format!("the row {} was given to a medium already", row.name);
                return Err(FlashError::Table { path: factory.line.rows.clone(), problem });
            }
            Ok(Some(row.clone()))
        }
        None => Ok(factory.table.rows.iter().find(|row| !used.contains(&row.name)).cloned()),
    }
}

/// A medium that this line has written: its machine's report is judged; it is never written again.
fn came_back(factory: &Factory, device: &Device, on_it: &judge::OnIt, told: &dyn Told) -> Result<(), FlashError> {
    let Some(account) = &on_it.account else {
        note(
            told,
            format!("row {} is on {} and hasn't been started yet: it isn't overwritten", device.row, device.port),
        );
        return Ok(());
    };
    let (device, verdict) = factory.judge(account, Heard::Medium)?;
    told.line(&FactoryEvent::Judged { row: device.row, verdict });
    Ok(())
}

fn flash_all(factory: &Factory, ports: &dyn Ports, mut batch: Vec<Work>, told: &dyn Told) -> Result<(), FlashError> {
    let (mut jobs, mut begun) = (Vec::new(), Vec::new());
    for Work { present, medium, id, row, ticket } in &mut batch {
        let id = *id;
        let seed = match factory.line.seed(row, ticket, factory.key.as_ref()) {
            Ok(seed) => seed,
            Err(error) => {
                factory.record().ended(id, State::Failed, &error.to_string())?;
                continue;
            }
        };
        jobs.push(Job {
            name: present.port.clone(),
            medium: &mut **medium,
            seed: Some((seed, factory.baked.boot)),
            probe: ports.is_doubted(present),
            before_last: Some(Box::new(move || factory.record().finishing(id))),
        });
        begun.push((present, id, row));
    }
    for ((present, id, row), result) in begun.into_iter().zip(flash(&factory.image, jobs, told)) {
        let (good, text) = match result {
            Ok(done) => {
                factory.record().written(id, &done)?;
                (true, told_of(&done))
            }
            Err(error) => {
                let state = if matches!(error, FlashError::MayBoot(_)) { State::Lost } else { State::Failed };
                let why = words(&error);
                factory.record().ended(id, state, &why)?;
                (false, why)
            }
        };
        told.line(&FactoryEvent::Ended { row: row.name.clone(), port: present.port.clone(), good, text });
    }
    label(factory, told)
}

fn told_of(done: &Done) -> String {
    format!("{} bytes in {:.1} s, read back in {:.1} s", done.written, done.write_seconds, done.verify_seconds)
}

/// Prints the labels that weren't yet.
pub(super) fn label(factory: &Factory, told: &dyn Told) -> Result<(), FlashError> {
    let Some(label) = &factory.line.label else { return Ok(()) };
    // One at a time, so that no two threads print the same.
    let record = factory.record();
    for device in record.unlabelled()? {
        let row = factory.table.rows.iter().find(|row| row.name == device.row);
        let mut text = label.text.clone();
        let disk = device.disk.clone().unwrap_or_default();
        let own = [("row", &device.row), ("ticket", &device.ticket), ("node", &device.node), ("disk", &disk)];
        let columns = row.iter().flat_map(|row| row.columns.iter().map(|(key, value)| (key.as_str(), value)));
        for (key, value) in own.into_iter().chain(columns) {
            text = text.replace(&format!("{{{key}}}"), value);
        }
        let printed = crate::file::append(&label.to, &format!("{text}\n"));
        match printed {
            Ok(()) => record.labelled(device.id, &text)?,
            Err(error) => note(told, format!("the label of row {}: {}", device.row, words(&error))),
        }
    }
    Ok(())
}
