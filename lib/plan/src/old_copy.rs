//! The old copy of the cluster on a card that it moved away from: when it may go.
//!
//! It goes only by the mark that the move itself left; only while that very disk is the home, with the epoch of that move
//! on both media; and only in a good boot that comes after another good boot on the new home. It is never started, so
//! there is no hurry. What a card holds that was never copied from it has no mark, and is nobody's business here.

use crate::Settings;
use crate::action::Action;
use crate::cluster::{self, ON_DISK, ON_STATE};
use crate::facts::{Amount, Facts};
use crate::home::{self, json};
use crate::identity;
use crate::step::{Decision, publish};
use bakelite_spec::places::RANCHER;
use bakelite_spec::quantity::Size;
use bakelite_spec::records::{FORMAT, OldCopy, Place};
use bakelite_spec::status::paths;

/// The mark.
pub const RECORD: &str = "/var/lib/bakelite/old-copy.json";

/// The mark, if there is one.
pub fn of(facts: &Facts) -> Option<OldCopy> {
    serde_json::from_str(facts.file(RECORD)?).ok()
}

/// The mark that a finished promotion leaves.
pub(crate) fn mark(disk: &str, epoch: u64) -> String {
    json(&OldCopy { format: FORMAT, disk: disk.into(), epoch, good_in: None })
}

/// Why the old copy has to stay for now.
fn stays(facts: &Facts, old: &OldCopy) -> Option<&'static str> {
    let node = identity::of(facts).map(|identity| identity.node);
    let home = home::of(facts);
    let lives_there = home.is_some_and(|home| {
        home.moving.is_none()
            && home.epoch == old.epoch
            && matches!(&home.place, Place::Disk(name) if name.guid == old.disk)
    });
    let attached = facts.attached().filter(|(_, data)| data.guid == old.disk);
    let says_so = attached
        .and_then(|(_, data)| data.content.as_ref()?.home.as_ref())
        .is_some_and(|home| Some(&home.node) == node.as_ref() && home.epoch == old.epoch && !home.left);
    let born_there = [ON_STATE, ON_DISK].into_iter().all(|path| {
        cluster::copy(facts, path).is_some_and(|born| Some(&born.node) == node.as_ref() && born.epoch == old.epoch)
    });
    let shown = facts.shown.get(RANCHER.at).is_some_and(|folder| folder.starts_with(paths::DATA_MOUNT));
    [
        (!lives_there, "the cluster doesn't live where it moved to"),
        (attached.is_none() || facts.vanished, "the disk that the cluster moved to isn't here"),
        (!says_so, "the disk that the cluster moved to doesn't say that it is the home"),
        (!born_there, "the cluster's records don't agree on the move yet"),
        (!shown, "k3s's data isn't shown from the disk"),
        (home::wish(facts).is_some(), "a move isn't over"),
        (!facts.has(paths::GOOD), "this boot isn't a good one yet"),
    ]
    .into_iter()
    .find_map(|(is, why)| is.then_some(why))
}

/// Whether it goes now: then it is worth the time to find out how much it is.
pub fn goes(facts: &Facts) -> bool {
    of(facts).is_some_and(|old| {
        stays(facts, &old).is_none() && old.good_in.is_some_and(|boot| !facts.boot.is_empty() && boot != facts.boot)
    })
}

/// Decides about the old copy.
pub fn decide(facts: &Facts, _: &Settings) -> Decision {
    let Some(old) = of(facts) else {
        return Decision::Done("the card holds no old copy of the cluster".into());
    };
    if let Some(why) = stays(facts, &old) {
        return Decision::Skip(format!("the old copy on the card stays: {why}"));
    }
    if goes(facts) {
        let Amount { bytes, files } = facts.on_card.unwrap_or_default();
        let why = format!("the old copy on the card goes: {} in {files} files", Size(bytes).human());
        return Decision::Run(why, vec![Action::RemoveOldCopy, Action::Remove { path: RECORD.into() }]);
    }
    let marked = OldCopy { good_in: Some(facts.boot.clone()), ..old };
    let actions = publish(facts, RECORD, json(&marked), 0o600).into_iter().collect();
    let why = "all is well on the data disk; the old copy on the card goes when the next boot is good as well";
    Decision::of(actions, why, why)
}
