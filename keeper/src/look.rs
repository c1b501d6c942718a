//! Looking: at k3s's database, its log and certificates, and at the media, each as often as it is worth.
//!
//! What is seen is held in memory; what it means is decided in `hygiene`, `certificates` and `wear`. The one thing that is
//! done here is the restart of k3s that was announced.

use crate::certificates::{self, Expiry, Next, Plan};
use crate::hygiene::Seen;
use crate::listen::Listener;
use crate::wear::{Medium, Sample};
use crate::{KeeperError, history, schedule, wear};
use bakelite_datastore::sizes::sizes;
use bakelite_plan::{Settings, cluster};
use bakelite_spec::apps;
use bakelite_spec::fault::Fault;
use bakelite_spec::records::ClusterBorn;
use bakelite_spec::status::{Restart, paths};
use bakelite_spec::update::{Ended, LAST};
use bakelite_sys::{block, durable, health, machine, mount, read_text, socket, words};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where init keeps what units write.
const LOGS: &str = "/run/log/bakelite";
/// The plan of a restart.
const PLAN: &str = "/var/lib/bakelite/certificate-restart.json";
/// Between two looks at the database and the media; certificates and the history have their hour.
const EACH: Duration = Duration::from_secs(600);
const HOUR: u64 = 3600;
/// What init answers in.
const SOON: Duration = Duration::from_secs(30);

/// What was seen last.
#[derive(Debug, Default)]
pub struct Looks {
    listener: Option<Listener>,
    looked: Option<Instant>,
    noted: Option<i64>,
    /// The database, and complaints about it.
    pub seen: Seen,
    /// The certificates.
    pub expiry: Expiry,
    /// A restart that is planned.
    pub restart: Option<Restart>,
    /// A restart that didn't renew them.
    pub in_vain: bool,
    /// The media.
    pub media: Vec<Medium>,
    /// What became of the last update.
    pub update: Option<Ended>,
    /// What became of the last bundle of apps.
    pub apps: Option<apps::Ended>,
    /// What is wrong with sticks that have come.
    pub visitors: Vec<Fault>,
}

impl Looks {
    /// Looks at what is due. `born` is the cluster on SQLite, if there is one.
    pub fn look(&mut self, settings: &Settings, born: Option<&ClusterBorn>) {
        let now = machine::clock();
        self.update = read_text(LAST).ok().and_then(|text| serde_json::from_str(&text).ok());
        self.apps = read_text(apps::LAST).ok().and_then(|text| serde_json::from_str(&text).ok());
        let Some(unit) = settings.manifest.payload.kind.unit() else { return };
        let listener = self.listener.get_or_insert_with(|| Listener::to(&Path::new(LOGS).join(format!("{unit}.log"))));
        listener.hear(now);
        (self.seen.slow, self.seen.full, self.seen.damaged) = (listener.slow(), listener.full(), listener.damaged());
        if self.looked.is_some_and(|looked| looked.elapsed() < EACH) {
            return;
        }
        self.looked = Some(Instant::now());
        let database = Path::new(cluster::DATABASE);
        if born.is_some() {
            self.seen.sizes = sizes(database).inspect_err(|error| log::warn!("{}", words(error))).ok();
            let folder = database.parent().unwrap_or(database);
            self.seen.room = (mount::free(folder), mount::size(folder));
        }
        if let Err(error) = self.look_at_media(now) {
            log::warn!("{}", words(&error));
        }
        if let Err(error) = self.look_at_certificates(unit, born, now) {
            log::warn!("{}", words(&error));
        }
    }

    fn look_at_media(&mut self, now: i64) -> Result<(), KeeperError> {
        let mut disks = block::disks(Path::new("/"));
        let (path, each) = history::place();
        let is_due = self.noted.is_none_or(|noted| now < noted || now - noted >= each);
        if is_due || self.media.len() != disks.len() {
            health::ask(&mut disks);
            let mut connection = history::open(&path)?;
            let mut rows = history::read(&connection, &path)?;
            // What was noted before a restart of the watch counts as well.
            self.noted = rows.iter().map(|row| row.at).max().filter(|last| (0..each).contains(&(now - last)));
            if self.noted.is_none() {
                let boot = machine::boot(Path::new("/"));
                let new: Vec<Sample> = disks.iter().map(|disk| sample(disk, &boot, now)).collect();
                history::note(&mut connection, &path, &new, now)?;
                rows.extend(new);
                self.noted = Some(now);
            }
            self.media = disks.iter().map(|disk| wear::medium(disk, &rows, now)).collect();
        }
        for medium in &mut self.media {
            medium.written =
                disks.iter().find(|disk| disk.name == medium.name).map_or(medium.written, |disk| disk.written);
        }
        Ok(())
    }

    fn look_at_certificates(&mut self, unit: &str, born: Option<&ClusterBorn>, now: i64) -> Result<(), KeeperError> {
        self.expiry = certificates::look();
        let plan = read_text(PLAN).ok().and_then(|text| serde_json::from_str::<Plan>(&text).ok());
        let shift = born.map_or(0, |born| schedule::shift(&born.node, HOUR).cast_signed());
        let next = certificates::next(self.expiry, plan, now, shift);
        self.in_vain = next == Next::InVain;
        self.restart = None;
        match next {
            Next::Nothing if plan.is_some() => durable::remove_file(PLAN)?,
            Next::Nothing | Next::InVain => {}
            Next::Wait(plan) => self.restart = Some(certificates::announced(plan, self.expiry)),
            Next::Announce(plan) => {
                keep(plan)?;
                let announced = certificates::announced(plan, self.expiry);
                log::info!("planned a restart of k3s: {}", announced.why);
                self.restart = Some(announced);
            }
            Next::Restart(plan) => {
                // Noted before it is done: it must never become a restart each ten minutes.
                keep(Plan { done: Some(now), ..plan })?;
                log::info!("restarting k3s, so that it renews its certificates");
                socket::ask(Path::new(paths::CONTROL), &format!("restart {unit}"), SOON)?;
            }
        }
        Ok(())
    }
}

fn keep(plan: Plan) -> Result<(), KeeperError> {
    Ok(durable::write_durable(PLAN, &serde_json::to_vec(&plan).unwrap_or_default(), 0o600)?)
}

fn sample(disk: &block::Disk, boot: &str, now: i64) -> Sample {
    Sample { medium: wear::identity(disk), at: now, boot: boot.into(), bytes: disk.written, used: disk.used }
}

/// The media with their history, for whoever asks.
///
/// # Errors
/// When the history can't be read.
pub fn media() -> Result<Vec<Medium>, KeeperError> {
    let (path, _) = history::place();
    let rows = if path.exists() { history::read(&history::open(&path)?, &path)? } else { Vec::new() };
    let (now, mut disks) = (machine::clock(), block::disks(Path::new("/")));
    health::ask(&mut disks);
    Ok(disks.iter().map(|disk| wear::medium(disk, &rows, now)).collect())
}
