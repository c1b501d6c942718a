//! `bakelite storage promote`: the move to a data disk at once, instead of at the next boot.
//!
//! Only asks: init stops k3s and has early and settle run, which find the disk, move and start k3s as at a boot.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{layers, probe};
use bakelite_plan::home::{self, AT_ONCE};
use bakelite_spec::appliance::Payload;
use bakelite_spec::status::paths;
use bakelite_sys::{durable, socket};
use std::path::Path;
use std::time::Duration;

/// How long init may take to answer: while workloads end it hears nothing, and k3s has a minute, its pods half of one.
pub const LIMIT: Duration = Duration::from_secs(180);

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
    let ask = |words: &str| socket::ask(Path::new(paths::CONTROL), words, LIMIT);
    durable::replace(AT_ONCE, b"", 0o644)?;
    if let Err(error) = ask("stop-workloads") {
        durable::remove_file(AT_ONCE)?;
        return Err(error.into());
    }
    ask("refit")?;
    ask(&format!("start {unit}"))?;
    println!("k3s stops, and its data moves to the disk if one may be used; it starts again after that.");
    println!("The screen and {} say how far it is.", paths::STATUS);
    Ok(())
}
