//! The service: one loop that waits for the clock or for a stick, and does one thing at a time; what may take hours is an errand
//! beside it.
//!
//! It runs beside k3s and with the lowest priority. What has to be told is told once a turn, by `told`.

use crate::available::{self, Look};
use crate::backup::Record;
use crate::errand::{Answer, Errand};
use crate::look::Looks;
use crate::mirror::Mirror;
use crate::node::Teller;
use crate::shelf::Shelf;
use crate::trial::Trial;
use crate::{KeeperError, apps, backup, drill, integrity, schedule, target, told};
use bakelite_plan::Settings;
use bakelite_plan::update::window;
use bakelite_spec::fault::Fault;
use bakelite_spec::records::ClusterBorn;
use bakelite_spec::status::paths;
use bakelite_spec::update;
use bakelite_sys::{lock, machine, raw, read_text, socket, words};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_secs(60);
/// The same while something is under way.
const SOON: Duration = Duration::from_secs(5);
/// After a backup that failed, until the next attempt.
const PAUSE: Duration = Duration::from_secs(600);
/// A stick's partitions come one after the other.
const SETTLE: Duration = Duration::from_secs(3);

/// Keeps watch for ever. `settings` gives what counts now, and `None` while that can't be read; `visit` looks at sticks when
/// one has come, for what isn't the keeper's, and says what is wrong with them; it is told whether one was plugged in since
/// the last time; `ask` looks at `update.from` when its turn has come, beside the loop, and says what is wrong there, or
/// nothing where nobody answers; `come_up` is called once, when all workloads of the image have been available.
pub fn serve(
    settings: &dyn Fn() -> Option<Settings>,
    visit: &dyn Fn(&Settings, bool) -> Vec<Fault>,
    ask: fn() -> Answer,
    come_up: &dyn Fn(),
) -> ! {
    // k3s and what it runs come first.
    let _ = rustix::process::nice(10);
    let plugs = socket::uevents().inspect_err(|error| log::warn!("{}", words(error))).ok();
    // A stick may be in from the start.
    let (mut plugged, mut not_before, mut looks) = (true, Instant::now(), Looks::default());
    let (mut has_come, mut is_new, mut was_open, mut asked) = (true, false, true, None);
    let (mut trial, mut watch, mut is_close) = (Trial::default(), apps::Watch::default(), false);
    let (mut teller, mut mirror) = (Teller::default(), Mirror::default());
    let (mut workloads, mut errand) = (available::Watch::new(), Errand::default());
    loop {
        if let Some(settings) = settings() {
            is_close = trial.look(&settings) | watch.look(&settings);
            let cluster = backup::cluster_here(&settings);
            if let Some(born) = cluster.as_ref().filter(|_| Instant::now() >= not_before)
                && let Err(error) = back_up(&settings, born, &mut plugged, &mut mirror)
            {
                log::error!("no backup: {}", words(&error));
                not_before = Instant::now() + PAUSE;
            }
            looks.look(&settings, cluster.as_ref());
            // What isn't proved yet is no place to leave for another system.
            let is_settled = || {
                let is_good = read_text(paths::GOOD).is_ok_and(|text| !text.is_empty());
                is_good && !Path::new(update::PATH).exists() && apps::tried().is_none()
            };
            // What has waited for its window is looked for again when that opens.
            let is_open = opens(&settings);
            let has_opened = is_open && !was_open;
            (was_open, has_come) = (is_open, has_come || has_opened);
            if let Some(faults) = errand.take() {
                looks.address = faults;
            }
            // Two bundles at a time would be one too many.
            if is_settled() && !errand.is_on() && std::mem::take(&mut has_come) {
                looks.visitors = visit(&settings, std::mem::take(&mut is_new));
            }
            let turn = turn(&settings);
            if is_settled() && !errand.is_on() && turn.is_some() && turn != asked {
                asked = turn;
                errand.send(ask);
            }
            if is_settled() {
                match workloads.look(&settings) {
                    Look::News => come_up(),
                    Look::Waits(soon) => is_close |= soon,
                    Look::Known => {}
                }
            }
            teller.tell(&settings, &told::tell(&looks));
        }
        let is_soon = is_close || teller.is_telling();
        // Neither SQLite's and the compressor's memory nor most of the program is needed until then.
        raw::return_memory();
        is_new |= wait(plugs.as_ref(), if is_soon { SOON } else { LOOK });
        has_come |= is_new;
        plugged |= has_come;
    }
}

/// Whether the window for updates is open on this machine.
fn opens(settings: &Settings) -> bool {
    let node = crate::node().unwrap_or_default();
    window::is_open(settings.appliance.update.window.as_ref(), &node, machine::clock())
}

/// This machine's turn to ask at `update.from`, by when it began.
fn turn(settings: &Settings) -> Option<i64> {
    let node = crate::node().unwrap_or_default();
    window::turn(settings.appliance.update.window.as_ref(), &node, machine::clock())
}

/// Makes a backup if one is due, gives a target that was plugged in what it lacks, holds a drill, or brings the mirror up to
/// date: one of them a turn.
fn back_up(
    settings: &Settings,
    born: &ClusterBorn,
    plugged: &mut bool,
    mirror: &mut Mirror,
) -> Result<(), KeeperError> {
    let shelf = Shelf::all(&born.node).swap_remove(0);
    let has_data_disk = Shelf::of_disk(&born.node).is_some();
    let (last, now) = (shelf.newest().map(|(_, newest)| newest.made), machine::clock());
    let rhythm = settings.appliance.backup.every.rhythm(has_data_disk);
    let is_due = rhythm.is_some_and(|rhythm| schedule::is_due(last, now, &rhythm, &born.node));
    let drills = last.is_some() && drill::is_due(settings, &born.node, now);
    let checks = !is_due && integrity::is_due(last, now);
    let mirrors = has_data_disk && mirror.is_due();
    if !is_due && !*plugged && !drills && !checks && !mirrors {
        return Ok(());
    }
    let Some(_held) = lock::try_take(Path::new(backup::LOCK))? else { return Ok(()) };
    let has_come = std::mem::take(plugged);
    if is_due {
        return backup::make(settings, born).map(drop);
    }
    if checks {
        return backup::noted(integrity::check());
    }
    if has_come {
        let mut record = Record::read();
        let wants_newer = target::serve(settings, &born.node, &mut record);
        record.write()?;
        if wants_newer {
            return backup::make(settings, born).map(drop);
        }
    }
    if drills {
        return drill::hold(settings, &born.node).map(drop);
    }
    if mirrors {
        mirror.refresh(born);
    }
    Ok(())
}

/// Waits for the next look; whether a disk has come meanwhile.
fn wait(plugs: Option<&OwnedFd>, limit: Duration) -> bool {
    let Some(plugs) = plugs else {
        std::thread::sleep(limit);
        return false;
    };
    let until = Instant::now() + limit;
    while socket::wait(plugs, until.saturating_duration_since(Instant::now())) {
        if came(plugs) {
            std::thread::sleep(SETTLE);
            came(plugs);
            return true;
        }
    }
    false
}

/// Takes what the kernel has said; whether a disk was among it.
fn came(plugs: &OwnedFd) -> bool {
    let mut any = false;
    while let Some(event) = socket::receive_uevent(plugs) {
        // Lost events show as none.
        let is_news = event.get("ACTION").is_some_and(|action| action == "add" || action == "change");
        any |= event.is_empty() || (is_news && socket::is_of_disk(&event));
    }
    any
}
