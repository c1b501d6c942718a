//! `bakelite storage promote`: the move to a data disk at once, instead of at the next boot.
//!
//! Only asks: init stops k3s and has early and settle run, which find the disk, move and start k3s as at a boot.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{layers, probe};
use bakelite_plan::home::{self, AT_ONCE};
use bakelite_spec::appliance::Payload;
use bakelite_spec::event::UnitState;
use bakelite_spec::status::{Status, paths};
use bakelite_sys::{durable, read_text, socket};
use std::path::Path;
use std::time::Duration;

/// k3s has a minute to end, its pods half a minute each.
const LIMIT: Duration = Duration::from_secs(180);

/// Begins the move, and says what to look at.
///
/// # Errors
/// When there is nothing to move, or init can't be asked.
pub fn promote() -> Result<(), FirstbootError> {
    let root = Path::new("/");
    let (facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), layers::settings(root)?);
    let unit = match settings.manifest.payload.kind {
        Payload::None => return Err(FirstbootError::NothingToMove("this image has no payload".into())),
        Payload::Rehearsal => "rehearsal",
        Payload::Official => "k3s",
    };
    if let Some(disk) = home::of(&facts).and_then(|home| home.needs().cloned()) {
        return Err(FirstbootError::NothingToMove(format!("it lives on a data disk already ({})", disk.words)));
    }
    if !facts.disks.iter().any(|disk| !disk.boot) {
        return Err(FirstbootError::NothingToMove("there is no other disk".into()));
    }
    durable::replace(AT_ONCE, b"", 0o644)?;
    socket::ask(Path::new(paths::CONTROL), "stop-workloads")?;
    await_end_of(unit)?;
    for words in ["refit", &format!("start {unit}")] {
        socket::ask(Path::new(paths::CONTROL), words)?;
    }
    println!("k3s stops, and its data moves to the disk if one may be used; it starts again after that.");
    println!("The screen and {} say how far it is.", paths::STATUS);
    Ok(())
}

/// Waits until a unit has ended: whatever is asked of init while it stops workloads isn't heard.
fn await_end_of(unit: &str) -> Result<(), FirstbootError> {
    for _ in 0..LIMIT.as_secs() {
        std::thread::sleep(Duration::from_secs(1));
        let status = read_text(paths::STATUS).ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
        let live = status.and_then(|mut status| status.units.remove(unit));
        if live.is_some_and(|live| live.pid.is_none() && live.state == UnitState::Waiting) {
            return Ok(());
        }
    }
    durable::remove_file(AT_ONCE)?;
    Err(FirstbootError::NothingToMove(format!("{unit} didn't end in {} s", LIMIT.as_secs())))
}
