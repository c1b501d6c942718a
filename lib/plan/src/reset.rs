//! Reset: back to a blank machine, by a person's word that names the node. Done at the next boot, before anything else.
//!
//! The wish stands on state, and goes last: whatever cut comes between, the next boot does all of it again, and k3s isn't
//! started before it is over. Of the data disk it takes one write: without its born record it is a disk that may be made
//! anew. With `keep-identity` the next cluster begins a line of the database that is newer than all before, so that
//! neither an old card nor an old backup is taken for it.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::home::{self, DISK_HOME, HOME, json};
use crate::identity::{self, Identity};
use crate::step::{Decision, Step, publish};
use crate::{cluster, firewall, settings};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::places::{self, Shown};
use bakelite_spec::records::{DiskHome, DiskName, FORMAT, Home};
use bakelite_spec::status::paths;
use serde::{Deserialize, Serialize};

/// What a person wants, on state.
pub const WISH: &str = "/var/lib/bakelite/reset.json";
/// That it was done in this boot, and why the machine restarts.
pub const DONE: &str = "/run/bakelite/reset-done";
/// The epoch that the next cluster begins with, after a reset that kept the identity.
pub const FRESH: &str = "/var/lib/bakelite/fresh.json";

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The cluster with all its data; name, keys, settings and backups stay.
    KeepIdentity,
    /// All that the machine ever wrote.
    Everything,
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wish {
    /// The records' format.
    pub format: u32,
    /// How much goes.
    pub level: Level,
    /// The node that was named.
    pub node: String,
    /// The data disk that it is about, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskName>,
    /// The epoch that a new cluster is to begin with.
    pub epoch: u64,
    /// The boot in which it was wished: it is done in another one.
    pub boot: String,
}

/// The next cluster's epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Fresh {
    format: u32,
    epoch: u64,
}

/// What is left of a machine's own folder on the card when all goes: its clock, and that it was switched off in order.
const ALWAYS: &[&str] = &["clock", "dirty", "reset.json"];
/// What else stays with the identity; the same names as in the seal.
const IDENTITY: &[&str] = &[
    "accepted",
    "device.key",
    "fresh.json",
    "home.json",
    "identity.json",
    "last-address",
    "machine-id",
    "secrets",
    "sets",
    "settings",
    "token",
];
/// The same on the data disk.
const ON_DISK: &[&str] = &["home.json", "seal", "sets"];
/// Of the other folders on the card.
const BESIDE: &[&str] = &["chrony", "dhcpcd", "dropbear", "rancher-etc/node"];

/// The wish of a person, for a machine as it is.
pub fn wish(facts: &Facts, node: &str, level: Level) -> Wish {
    let epoch = cluster::of(facts).map_or(0, |born| born.epoch).max(home::of(facts).map_or(0, |home| home.epoch));
    Wish {
        format: FORMAT,
        level,
        node: node.into(),
        disk: facts.attached().map(|(disk, data)| disk.data_name(data)),
        epoch: epoch.max(epoch_of_next(facts)) + 1,
        boot: facts.boot.clone(),
    }
}

/// The epoch below which no new cluster begins.
pub(crate) fn epoch_of_next(facts: &Facts) -> u64 {
    facts.file(FRESH).and_then(|text| serde_json::from_str::<Fresh>(text).ok()).map_or(0, |fresh| fresh.epoch)
}

/// Whether the backups on the machine's own media are of a cluster that a person wanted gone: none is taken unasked
/// before there is another one.
pub fn spares_own_sets(facts: &Facts) -> bool {
    facts.has(FRESH) && cluster::of(facts).is_none()
}

/// Whether a text of [`WISH`] is to be done in this boot.
pub fn is_due(text: &str, boot: &str) -> bool {
    // What can't be read is told by the step.
    serde_json::from_str::<Wish>(text).map_or(true, |wish| wish.boot != boot)
}

/// In place of early: nothing but the reset, and what lets an operator in while it waits.
pub const STEPS: &[Step] = &[
    Step { name: "reset", ends_the_pass: false, fails_as: Some(Code::ResetUnfinished), decide },
    Step { name: "settings", ends_the_pass: false, fails_as: None, decide: settings::decide },
    Step { name: "firewall", ends_the_pass: false, fails_as: Some(Code::FirewallRefused), decide: firewall::decide },
];

/// Decides about the reset.
pub fn decide(facts: &Facts, _: &Settings) -> Decision {
    if let Some(done) = facts.file(DONE) {
        return Decision::Reboot(done.trim_end().into(), None);
    }
    let Some(text) = facts.file(WISH) else { return Decision::Done("nobody wants this machine blank".into()) };
    let refuse = |text: String| Decision::Refuse(Fault::new(Code::ResetUnfinished, text));
    let Ok(wish) = serde_json::from_str::<Wish>(text) else { return refuse(format!("{WISH} can't be read")) };
    // The record goes early where all goes; while it is there it has to be the one that was named.
    if identity::of(facts).is_some_and(|own: Identity| own.node != wish.node) {
        return refuse(format!("{WISH} is about {}, which this machine isn't", wish.node));
    }
    let data = wish.disk.as_ref().map(|named| facts.data_partitions().find(|(_, data)| data.guid == named.guid));
    let disk = match (data, &wish.disk) {
        (Some(None), Some(named)) => {
            let text = format!("{} is to be blank, and its data disk ({}) isn't here", wish.node, named.words);
            return Decision::Wait(text.clone(), Some(Fault::new(Code::ResetUnfinished, text)));
        }
        (Some(found), _) => found,
        _ => None,
    };
    match (wish.level, disk) {
        (Level::Everything, Some((disk, data))) if data.born => {
            let why = format!("{} is to hold nothing of {} any more", disk.words(), wish.node);
            Decision::Run(why, vec![Action::Unbear { guid: data.guid.clone() }])
        }
        (Level::KeepIdentity, Some((_, data))) if data.damaged.is_some() => {
            refuse(format!("the data disk can't be read: {}", data.damaged.clone().unwrap_or_default()))
        }
        (Level::KeepIdentity, Some((disk, data))) if !data.attached => {
            let why = format!("{} is attached, for k3s's data on it to go", disk.words());
            Decision::Run(why, vec![Action::Attach { guid: data.guid.clone() }])
        }
        (Level::Everything, _) => go(&wish, vec![blank_card(ALWAYS, &[])]),
        (Level::KeepIdentity, disk) => keep_identity(facts, &wish, disk.is_some()),
    }
}

fn keep_identity(facts: &Facts, wish: &Wish, has_disk: bool) -> Decision {
    let home = home::of(facts).map(|home| Home { moving: None, epoch: wish.epoch, ..home });
    let on_disk = DiskHome { format: FORMAT, node: wish.node.clone(), epoch: wish.epoch, left: false };
    let fresh = Fresh { format: FORMAT, epoch: wish.epoch };
    let own: Vec<&str> = ALWAYS.iter().chain(IDENTITY).copied().collect();
    let records = [
        publish(facts, FRESH, json(&fresh), 0o600),
        home.and_then(|home| publish(facts, HOME, json(&home), 0o600)),
        publish(facts, DISK_HOME, json(&on_disk), 0o600).filter(|_| has_disk && facts.has(DISK_HOME)),
        Some(blank_card(&own, BESIDE)),
        has_disk.then(blank_disk),
    ];
    go(wish, records.into_iter().flatten().collect())
}

/// The acts, and what ends them. The restart's reason is another one each time.
fn go(wish: &Wish, mut actions: Vec<Action>) -> Decision {
    let what = match wish.level {
        Level::KeepIdentity => "holds no cluster any more; its name and keys stayed",
        Level::Everything => "is blank",
    };
    let text = format!("the machine that was {} {what}, as was wished in boot {}", wish.node, wish.boot);
    actions.push(Action::Tell { path: DONE.into(), text: text.clone() + "\n", mode: 0o644 });
    actions.push(Action::Remove { path: WISH.into() });
    Decision::Run(text, actions)
}

/// All that is on the card, but names in our own folder and paths beside it.
fn blank_card(own: &[&str], beside: &[&str]) -> Action {
    blank(paths::STATE_MOUNT, &mut places::on_state(), own, beside)
}

fn blank_disk() -> Action {
    // Our own folder on the disk isn't shown anywhere.
    let own = Shown { folder: "bakelite", at: "", mode: 0 };
    blank(paths::DATA_MOUNT, &mut places::on_disk().chain([own]), ON_DISK, &[])
}

fn blank(medium: &str, shown: &mut dyn Iterator<Item = Shown>, own: &[&str], beside: &[&str]) -> Action {
    let at = |path: &str| format!("{medium}/{path}");
    let own = own.iter().map(|name| at(&format!("bakelite/{name}")));
    let mut but: Vec<String> = own.chain(beside.iter().map(|path| at(path))).collect();
    but.sort();
    Action::Blank { folders: shown.map(|place| at(place.folder)).collect(), but }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Data, Disk};
    use crate::identity::RECORD;
    use crate::seal::SEALED;
    use crate::testing::settings;
    use serde_json::json;

    fn machine(level: Level, disk: Option<Data>) -> Facts {
        let identity = "{\"format\":1,\"node\":\"shop-1\"}".to_string();
        let mut facts =
            Facts { boot: "one".into(), files: [(RECORD.to_string(), identity)].into(), ..Facts::default() };
        if let Some(data) = disk {
            facts.disks = vec![Disk { name: "sda".into(), data: Some(data), ..Disk::default() }];
        }
        let wish = wish(&facts, "shop-1", level);
        facts.files.insert(WISH.into(), json(&wish));
        facts.boot = "two".into();
        facts
    }

    fn data(attached: bool) -> Data {
        Data { guid: "g".into(), born: true, attached, ..Data::default() }
    }

    fn run(facts: &Facts) -> Vec<Action> {
        match decide(facts, &settings(&json!({}))) {
            Decision::Run(_, actions) => actions,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_wish_is_for_another_boot_and_goes_last() {
        let facts = machine(Level::Everything, None);
        let text = facts.file(WISH).unwrap();
        assert!(is_due(text, "two") && !is_due(text, "one") && is_due("rubbish", "one"));
        let actions = run(&facts);
        let [Action::Blank { folders, but }, Action::Tell { .. }, Action::Remove { path }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(path, WISH);
        assert_eq!(but, &["/state/bakelite/clock", "/state/bakelite/dirty", "/state/bakelite/reset.json"]);
        for folder in ["/state/bakelite", "/state/dropbear", "/state/rancher", "/state/rancher-etc", "/state/data"] {
            assert!(folders.iter().any(|path| path == folder), "{folder}");
        }
        let done = Facts { files: [(DONE.to_string(), "done\n".to_string())].into(), ..Facts::default() };
        assert!(matches!(decide(&done, &settings(&json!({}))), Decision::Reboot(why, None) if why == "done"));
        assert!(matches!(decide(&Facts::default(), &settings(&json!({}))), Decision::Done(_)));
    }

    #[test]
    fn the_data_disk_goes_first_and_is_waited_for() {
        let mut facts = machine(Level::Everything, Some(data(true)));
        facts.disks[0].data = Some(data(false));
        assert_eq!(run(&facts), [Action::Unbear { guid: "g".into() }]);
        facts.disks[0].data = Some(Data { born: false, ..data(false) });
        assert!(matches!(run(&facts)[..], [Action::Blank { .. }, ..]));
        facts.disks.clear();
        assert!(matches!(decide(&facts, &settings(&json!({}))), Decision::Wait(_, Some(_))));
    }

    #[test]
    fn with_the_identity_all_that_is_sealed_stays_and_the_line_of_the_database_is_a_new_one() {
        let mut facts = machine(Level::KeepIdentity, Some(data(true)));
        let home = r#"{"format":1,"place":{"disk":{"guid":"g","words":"w"}},"epoch":3}"#;
        let on_disk = r#"{"format":1,"node":"shop-1","epoch":3}"#;
        facts.files.extend([(HOME.to_string(), home.to_string()), (DISK_HOME.to_string(), on_disk.to_string())]);
        facts.files.insert(WISH.into(), json(&wish(&facts, "shop-1", Level::KeepIdentity)));
        facts.boot = "three".into();
        facts.disks[0].data = Some(data(false));
        assert_eq!(run(&facts), [Action::Attach { guid: "g".into() }]);
        facts.disks[0].data = Some(data(true));
        let actions = run(&facts);
        let epochs = actions
            .iter()
            .filter(|action| matches!(action, Action::Publish { text, .. } if text.contains("\"epoch\":4")));
        assert_eq!(epochs.count(), 3, "{actions:?}");
        let blanks: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Blank { folders, but } => Some((folders, but)),
                _ => None,
            })
            .collect();
        let [(card, kept), (disk, kept_on_disk)] = blanks[..] else { panic!("{actions:?}") };
        let on_card = [
            ("/var/lib/bakelite", "/state/bakelite"),
            ("/var/lib/dropbear", "/state/dropbear"),
            ("/etc/rancher", "/state/rancher-etc"),
        ];
        for sealed in SEALED {
            let (from, to) = on_card.iter().find(|(from, _)| sealed.starts_with(from)).unwrap();
            let path = sealed.replacen(from, to, 1);
            assert!(kept.iter().any(|kept| path.starts_with(kept.as_str())), "{path} goes");
        }
        for gone in ["/state/bakelite/cluster.json", "/state/rancher/k3s", "/state/bakelite/intent.json"] {
            assert!(card.iter().any(|folder| gone.starts_with(folder.as_str())), "{gone}");
            assert!(!kept.iter().any(|kept| gone.starts_with(kept.as_str())), "{gone}");
        }
        assert!(disk.contains(&"/disk/rancher".to_string()) && disk.contains(&"/disk/bakelite".to_string()));
        assert_eq!(kept_on_disk, &["/disk/bakelite/home.json", "/disk/bakelite/seal", "/disk/bakelite/sets"]);
        assert_eq!(actions.last(), Some(&Action::Remove { path: WISH.into() }));
    }

    #[test]
    fn another_machines_wish_and_one_that_cannot_be_read_are_refused() {
        for text in [
            "rubbish".to_string(),
            json(&Wish {
                node: "shop-9".into(),
                ..serde_json::from_str(machine(Level::Everything, None).file(WISH).unwrap()).unwrap()
            }),
        ] {
            let mut facts = machine(Level::Everything, None);
            facts.files.insert(WISH.into(), text);
            assert!(matches!(decide(&facts, &settings(&json!({}))), Decision::Refuse(_)));
        }
    }

    #[test]
    fn own_backups_are_left_alone_until_there_is_another_cluster() {
        let mut facts = Facts::default();
        assert!(!spares_own_sets(&facts));
        facts.files.insert(FRESH.into(), json(&Fresh { format: FORMAT, epoch: 4 }));
        assert!(spares_own_sets(&facts));
        assert_eq!((epoch_of_next(&facts), wish(&facts, "x", Level::KeepIdentity).epoch), (4, 5));
        let born = r#"{"format":1,"epoch":4,"node":"n","datastore":"sqlite","row":"","revision":1,"k3s":"x"}"#;
        facts.files.insert(cluster::ON_STATE.into(), born.into());
        assert!(!spares_own_sets(&facts));
    }
}
