//! `bakelite status`: how this machine is, on one page; what is wrong, who must act, and what to type.
//!
//! Only looks. What it tells is what init, firstboot and the keeper wrote down; nothing is found out anew that would cost
//! a medium anything. The exit status says it in a number, for whoever watches many machines.

use crate::account;
use crate::error::FirstbootError;
use crate::{layers, loader};
use bakelite_keeper::Backups;
use bakelite_spec::account::FaultReport;
use bakelite_spec::answer::{Ended, ago, pairs};
use bakelite_spec::appliance::Payload;
use bakelite_spec::apps::{self, Apps, Record};
use bakelite_spec::event::UnitState;
use bakelite_spec::fault::Who;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_spec::quantity::Size;
use bakelite_spec::status::{Status, UnitStatus, paths};
use bakelite_spec::tried::{self, End, Tried, TriedBundles};
use bakelite_spec::update::{self, Ended as LastUpdate, Update};
use bakelite_sys::{machine, mount, read_text};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// So many of the bundles that weren't taken are on the page.
const SHOWN: usize = 3;

/// How the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It does what it is for, and nobody has to act.
    Well,
    /// Somebody has to act.
    NeedsAPerson,
    /// It isn't ready yet, or again.
    ComingUp,
}

/// The page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Page {
    state: Verdict,
    node: String,
    doing: String,
    addresses: BTreeMap<String, Vec<String>>,
    /// Seconds since the kernel started.
    uptime: u64,
    /// Bakelite's version, the image's id, and the slot that runs.
    version: String,
    image: String,
    slot: String,
    /// Whether this boot counts as good.
    good: bool,
    debug: bool,
    /// The last good boot, in seconds since 1970.
    last_good: Option<i64>,
    entries: Vec<Entry>,
    /// The update that is tried.
    update: Option<Update>,
    /// What it still waits for, of the workloads from before it.
    update_waits_for: String,
    /// What became of the last one.
    last_update: Option<LastUpdate>,
    /// What is laid over the image's apps, and whether it has yet to prove itself.
    apps: Option<Apps>,
    apps_tried: bool,
    /// What they still wait for.
    apps_wait_for: String,
    /// What became of the last bundle of apps.
    last_apps: Option<apps::Ended>,
    /// Bundles that were tried and not taken, the last one first.
    tried_bundles: Vec<Tried>,
    payload: String,
    /// Seconds from the kernel's start to READY.
    ready_at: Option<f64>,
    units: BTreeMap<String, UnitStatus>,
    /// The cluster's id.
    cluster: String,
    home: String,
    disks: Vec<String>,
    media: Vec<Medium>,
    backup: Backups,
    faults: Vec<FaultReport>,
    warnings: Vec<String>,
}

/// An entry of the boot loader.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    slot: String,
    generation: u32,
    /// The id of the image that it starts.
    image: String,
    /// How often it may still be tried, and how often it was; none once it has proved itself.
    tries_left: Option<u32>,
    tries_done: Option<u32>,
}

/// A file system of the machine's own, in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Medium {
    place: &'static str,
    mount: &'static str,
    free: u64,
    size: u64,
}

/// Gives the page as JSON and as text, and how the command ends.
///
/// # Errors
/// When the settings can't be read.
pub fn look(root: &Path) -> Result<(impl Serialize, String, Ended), FirstbootError> {
    let (page, ended) = page(root)?;
    let text = text(&page, machine::clock());
    Ok((page, text, ended))
}

fn page(root: &Path) -> Result<(Page, Ended), FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let account = account::account(root)?;
    // Before init has written it for the first time the machine is coming up.
    let status: Status =
        read_text(at(paths::STATUS)).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let kind = layers::settings(root)?.manifest.payload.kind;
    let state = verdict(&status, kind);
    let entries = loader::seen(root).map_or_else(Vec::new, |loader| {
        let entries = loader.entries.iter();
        entries.filter_map(|(name, text)| Some(Entry::new(EntryName::parse(name)?, text))).collect()
    });
    let record = read_text(at(apps::RECORD)).ok().and_then(|text| Record::read(&text));
    let page = Page {
        state,
        doing: if status.doing.is_empty() { "init has said nothing yet".into() } else { status.doing },
        addresses: status.addresses,
        uptime: machine::uptime().as_secs(),
        good: status.good,
        debug: status.debug,
        last_good: account.last_good.map(|good| good.at),
        update: read_text(at(update::PATH)).ok().and_then(|text| Update::read(&text)),
        update_waits_for: read_text(at(update::WORKLOADS_MISSING)).unwrap_or_default(),
        last_update: account.last_update,
        apps: account.apps,
        apps_tried: record.is_some_and(|record| record.tried().is_some()),
        apps_wait_for: read_text(at(apps::MISSING)).unwrap_or_default(),
        last_apps: account.last_apps,
        tried_bundles: tried(&read_text(at(tried::PATH)).unwrap_or_default(), &machine::boot(root), &account.image),
        entries,
        payload: account.payload,
        ready_at: status.ready_at,
        units: status.units,
        backup: bakelite_keeper::backups(&account.node),
        node: account.node,
        version: account.version,
        image: account.image,
        slot: account.slot,
        cluster: account.cluster,
        home: account.home,
        disks: account.disks,
        media: media(),
        faults: account.faults,
        warnings: account.warnings,
    };
    let ended = match state {
        Verdict::Well => Ended::Well,
        Verdict::NeedsAPerson => Ended::Badly,
        Verdict::ComingUp => Ended::NotYet,
    };
    Ok((page, ended))
}

impl Entry {
    fn new(name: EntryName, text: &str) -> Self {
        let (tries_left, tries_done) = name.tries.unzip();
        let image = LoaderEntry::parse(text).image().to_string();
        Self { slot: name.slot, generation: name.generation, image, tries_left, tries_done }
    }
}

/// What was tried and not taken, the last one first: not what is written just now, nor what runs by now.
fn tried(text: &str, boot: &str, runs: &str) -> Vec<Tried> {
    let is_ended = |tried: &Tried| tried.image != runs && (tried.end != End::Open || tried.begun.boot != boot);
    TriedBundles::read(text).bundles.into_iter().rev().filter(is_ended).collect()
}

fn verdict(status: &Status, payload: Payload) -> Verdict {
    if status.faults.iter().any(|fault| fault.who != Who::Wait) {
        return Verdict::NeedsAPerson;
    }
    let runs =
        payload.unit().and_then(|unit| status.units.get(unit)).is_some_and(|unit| unit.state == UnitState::Running);
    let is_up = status.ready_at.is_some() && (runs || payload == Payload::None);
    if is_up { Verdict::Well } else { Verdict::ComingUp }
}

fn media() -> Vec<Medium> {
    let mounted = mount::points();
    let known = [("card", paths::STATE_MOUNT), ("data disk", paths::DATA_MOUNT)];
    known
        .into_iter()
        .filter(|(_, point)| mounted.iter().any(|mounted| mounted == point))
        .map(|(place, point)| {
            let path = Path::new(point);
            Medium { place, mount: point, free: mount::free(path), size: mount::size(path) }
        })
        .collect()
}

fn text(page: &Page, now: i64) -> String {
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.into() } else { text.to_string() };
    let verdict = match page.state {
        Verdict::Well => "well",
        Verdict::NeedsAPerson => "needs a person, see below",
        Verdict::ComingUp => "coming up",
    };
    let mut rows: Vec<(&str, String)> =
        vec![("node", or(&page.node, "has no name yet")), ("state", verdict.into()), ("now", page.doing.clone())];
    if page.addresses.is_empty() {
        rows.push(("address", "none".into()));
    }
    rows.extend(page.addresses.iter().map(|(link, all)| ("address", format!("{} ({link})", all.join(", ")))));
    let ready = page.ready_at.map_or_else(String::new, |at| format!(", ready {at:.0} s after power-on"));
    rows.push(("payload", format!("{}{ready}", page.payload)));
    let good = if page.good { "this boot is good" } else { "this boot doesn't count as good yet" };
    let debug = if page.debug { ", a debug image: its serial console has a root shell" } else { "" };
    rows.push(("system", format!("{}, Bakelite {}, image {}; {good}{debug}", page.slot, page.version, page.image)));
    if let Some(last) = page.last_good.filter(|_| !page.good) {
        rows.push(("last good", ago(now - last)));
    }
    rows.extend(page.entries.iter().map(|entry| ("boot entry", entry.words())));
    if let Some(update) = &page.update {
        let side = if update.to.slot == page.slot { "is tried" } else { "is about to be tried, or went back" };
        let waits = match page.update_waits_for.as_str() {
            "" => String::new(),
            missing => format!("; not available again yet: {missing}"),
        };
        rows.push(("update", format!("{} {side}; {} more tries are left{waits}", update.to.words(), update.tries)));
    }
    if let Some(last) = &page.last_update {
        rows.push(("last update", format!("{}: {}", ago(now - last.at), last.words())));
    }
    if let Some(apps) = &page.apps {
        let tried = match page.apps_wait_for.as_str() {
            _ if !page.apps_tried => "",
            "" => ", is tried",
            missing => &format!(", is tried; {missing}"),
        };
        rows.push(("apps", format!("{}, put in {}{tried}", apps.words(), ago(now - apps.at))));
    }
    if let Some(last) = &page.last_apps {
        rows.push(("last apps", format!("{}: {}", ago(now - last.at), last.words())));
    }
    rows.extend(page.tried_bundles.iter().take(SHOWN).map(|tried| {
        let (bundle, when, why) = (&tried.bundle, ago(now - tried.begun.at), tried.words());
        ("not taken", format!("{bundle}, {when}: {why}; `bakelite update FILE` tries it at once"))
    }));
    rows.push(("started", ago(i64::try_from(page.uptime).unwrap_or(i64::MAX))));
    rows.push(("cluster", or(&page.cluster, "none yet")));
    rows.push(("k3s's data", format!("on {}", page.home)));
    for medium in &page.media {
        let (free, size) = (Size(medium.free).human(), Size(medium.size).human());
        rows.push((medium.place, format!("{free} of {size} free")));
    }
    rows.extend(page.backup.told(now).into_iter().map(|told| ("backup", told)));
    let ailing = |state| matches!(state, UnitState::Failed | UnitState::GivenUp);
    for (name, unit) in page.units.iter().filter(|(_, unit)| ailing(unit.state)) {
        rows.push(("service", format!("{name}: {}; `bakelite logs {name}`", unit.detail)));
    }
    rows.extend(page.warnings.iter().map(|warning| ("note", warning.clone())));
    for fault in &page.faults {
        rows.push(("WRONG", format!("{} ({})", fault.what, fault.code)));
        rows.push(("WHO", fault.who.clone()));
        rows.push(("DO", fault.hint.clone()));
    }
    pairs(&rows)
}

impl Entry {
    fn words(&self) -> String {
        let tries = match (self.tries_left, self.tries_done) {
            (Some(0), Some(done)) => format!("given up after {done} tries"),
            (Some(left), Some(done)) => format!("{left} tries left, {done} done"),
            _ => "has proved itself".into(),
        };
        let image = if self.image.is_empty() { String::new() } else { format!(", image {}", self.image) };
        format!("{}, generation {}{image}: {tries}", self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write};
    use bakelite_plan::identity;
    use bakelite_spec::fault::{Code, Fault};

    fn status(state: UnitState, faults: Vec<Fault>) -> Status {
        let unit = UnitStatus { state, pid: None, starts: 1, detail: "exit status 1".into() };
        let units = [("rehearsal".to_string(), unit)].into();
        Status { ready_at: Some(41.0), doing: "rehearsal is running".into(), units, faults, ..Status::default() }
    }

    #[test]
    fn the_exit_status_says_whether_somebody_has_to_act() {
        let of = |state, faults| verdict(&status(state, faults), Payload::Rehearsal);
        let fault = |code| vec![Fault::new(code, "x")];
        assert_eq!(of(UnitState::Running, Vec::new()), Verdict::Well);
        assert_eq!(of(UnitState::Running, fault(Code::NoNetwork)), Verdict::Well, "nobody has to act");
        assert_eq!(of(UnitState::Running, fault(Code::StateFull)), Verdict::NeedsAPerson);
        assert_eq!(of(UnitState::Starting, Vec::new()), Verdict::ComingUp);
        assert_eq!(of(UnitState::Failed, fault(Code::K3sWrongToken)), Verdict::NeedsAPerson);
        assert_eq!(verdict(&Status::default(), Payload::Rehearsal), Verdict::ComingUp);
        let bare = Status { ready_at: Some(9.0), ..Status::default() };
        assert_eq!(verdict(&bare, Payload::None), Verdict::Well);
    }

    #[test]
    fn the_page_tells_who_must_act_and_what_to_type_and_no_secret() {
        let root = machine("k3s: rehearsal\n");
        write(root.path(), identity::RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
        write(root.path(), identity::TOKEN, "hunter2token");
        let told = status(UnitState::Failed, vec![Fault::new(Code::StateFull, "1 KiB left")]);
        write(root.path(), paths::STATUS, &serde_json::to_string(&told).unwrap());
        let (page, ended) = page(root.path()).unwrap();
        let page_text = text(&page, 0);
        for line in [
            "node        shop-1\n",
            "state       needs a person, see below\n",
            "payload     rehearsal, ready 41 s after power-on\n",
            "service     rehearsal: exit status 1; `bakelite logs rehearsal`\n",
            "WRONG       1 KiB left (state-full)\nWHO         you must act\nDO          Make room",
        ] {
            assert!(page_text.contains(line), "{line} in {page_text}");
        }
        assert_eq!(ended, Ended::Badly);
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!((&json["state"], &json["node"]), (&"needs-a-person".into(), &"shop-1".into()));
        assert!(!format!("{json}{page_text}").contains("hunter2"));
    }

    #[test]
    fn bundles_that_were_not_taken_are_told_with_the_reason_and_what_to_type() {
        let root = machine("k3s: rehearsal\n");
        let mut record = TriedBundles::default();
        for (image, end, boot) in [("one", End::Open, "before"), ("two", End::Failed, ""), ("three", End::Open, "")] {
            let begun = tried::Moment { boot: boot.into(), ..tried::Moment::default() };
            let (bundle, why) = (format!("shop {image}"), "it was cut off".to_string());
            record.note(Tried { image: image.into(), bundle, begun, times: 2, end, why, ..Tried::default() });
        }
        write(root.path(), tried::PATH, &record.text());
        let page_text = text(&page(root.path()).unwrap().0, 0);
        let told: Vec<&str> = page_text.lines().filter(|line| line.starts_with("not taken")).collect();
        assert_eq!(
            told,
            [
                "not taken   shop two, 0 s ago: it was cut off (tried 2 times); `bakelite update FILE` tries it at once",
                "not taken   shop one, 0 s ago: the machine went down while it was written (tried 2 times); `bakelite update FILE` tries it at once",
            ],
            "the third one is written now: {page_text}"
        );
        assert_eq!(super::tried(&record.text(), "later", "two").len(), 2);
    }

    #[test]
    fn an_entry_tells_its_tries() {
        let words = |name: &str| Entry::new(EntryName::parse(name).unwrap(), "version 1.abc+2\n").words();
        assert_eq!(words("bakelite-a.conf"), "a, generation 1, image abc: has proved itself");
        assert_eq!(words("bakelite-a-2+2-1.conf"), "a, generation 2, image abc: 2 tries left, 1 done");
        assert_eq!(words("bakelite-b+0-3.conf"), "b, generation 1, image abc: given up after 3 tries");
    }
}
