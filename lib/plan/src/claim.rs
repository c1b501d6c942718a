//! Which disk may be taken, by the words of `storage`: for data, and by a stick for the system of a machine that has none.
//!
//! Law 5: a disk is written only with a permit: it holds nothing, or a person named it. Whatever is refused is only read, and
//! the refusal says why and what to write where a person wants it all the same.

use crate::disk::{Disk, Proof};
use bakelite_spec::appliance::{Claim, Storage};
use bakelite_spec::quantity::Size;

/// What the words come to.
#[derive(Debug)]
pub enum Choice<'a> {
    /// First these have to be looked at.
    Look(Vec<&'a Disk>),
    /// This one is taken; the permit in words.
    Take(&'a Disk, String),
    /// None may be taken; why each may not.
    None(Vec<(&'a Disk, String)>),
}

/// Chooses among disks that aren't the boot medium.
pub fn choose<'a>(others: &[&'a Disk], storage: &Storage) -> Choice<'a> {
    let (mut candidates, mut refused): (Vec<&Disk>, Vec<(&Disk, String)>) = (Vec::new(), Vec::new());
    for disk in others {
        let twins = others.iter().filter(|other| other.key() == disk.key()).count();
        match reason(disk, storage).or_else(|| (twins > 1).then(|| "another disk has the same serial number".into())) {
            None => candidates.push(disk),
            Some(why) => refused.push((disk, why)),
        }
    }
    let named = storage.serial.is_some();
    if !named {
        let unproved: Vec<&Disk> = candidates.iter().filter(|disk| disk.proof.is_none()).copied().collect();
        if !unproved.is_empty() {
            return Choice::Look(unproved);
        }
        for disk in std::mem::take(&mut candidates) {
            match held(disk, storage.claim) {
                None => candidates.push(disk),
                Some(why) => refused.push((disk, why)),
            }
        }
    }
    if storage.claim == Claim::Any && !named && candidates.len() > 1 {
        let why = "`storage.claim: any` takes only the one disk there is, and there are more";
        refused.extend(candidates.drain(..).map(|disk| (disk, why.to_string())));
    }
    let rank = |disk: &Disk| storage.prefer.iter().position(|kind| kind == disk.kind()).unwrap_or(usize::MAX);
    candidates.sort_by_key(|disk| (rank(disk), std::cmp::Reverse(disk.size), disk.key()));
    match candidates.first() {
        Some(disk) => Choice::Take(disk, permit(disk, storage)),
        None => Choice::None(refused),
    }
}

/// Why none is taken, for a person, and what to write to have one taken; `None` where nobody would have expected one to be.
pub fn refusal(storage: &Storage, refused: &[(&Disk, String)]) -> Option<String> {
    // Sticks and cards are nothing that a person would have expected to be used.
    let meant: Vec<_> = refused
        .iter()
        .filter(|(disk, _)| {
            let named = storage.serial.as_ref().is_some_and(|serial| disk.is_named(serial));
            let is_stick = disk.removable || disk.proof == Some(Proof::Stick);
            named || !is_stick && storage.prefer.iter().any(|kind| kind == disk.kind())
        })
        .collect();
    if meant.is_empty() {
        return None;
    }
    let each: Vec<String> = meant.iter().map(|(disk, why)| format!("{}: {why}", disk.words())).collect();
    // Said only where it would help.
    let mut named = meant.iter().filter_map(|(disk, _)| {
        let serial = [&disk.serial, &disk.wwn].into_iter().find(|text| !text.is_empty())?.clone();
        let named = Storage { serial: Some(serial.clone()), ..storage.clone() };
        reason(disk, &named).is_none().then_some(serial)
    });
    let words = named.next().map_or(String::new(), |serial| {
        format!(" To use it and lose what is on it: `storage: {{serial: \"{serial}\"}}`.")
    });
    Some(format!("{}.{words}", each.join("; ")))
}

/// Why a disk can't be claimed, whatever is on it.
pub(crate) fn reason(disk: &Disk, storage: &Storage) -> Option<String> {
    let named = storage.serial.as_ref().map(|serial| (serial, disk.is_named(serial)));
    if let Some((serial, false)) = named {
        return Some(format!("`storage.serial` names another one ({serial})"));
    }
    let is_named = named.is_some();
    let listed = storage.prefer.iter().any(|kind| kind == disk.kind());
    let rules = [
        (!disk.used_by.is_empty(), format!("it is in use by {}", disk.used_by.join(", "))),
        (disk.read_only, "it can't be written".into()),
        (!disk.ails.is_empty(), disk.ails.clone()),
        (
            !matches!(disk.sector, 0 | 512),
            format!("its sectors have {} bytes, and only 512 are known here", disk.sector),
        ),
        (!is_named && disk.removable, "its medium can be taken out".into()),
        (!is_named && !listed, format!("`storage.prefer` doesn't list {}", disk.kind())),
        (
            disk.size < storage.min_size.0,
            format!("it has {}, and `storage.min-size` is {}", Size(disk.size).human(), storage.min_size.human()),
        ),
    ];
    rules.into_iter().find(|(applies, _)| *applies).map(|(_, why)| why)
}

/// Why what is on a disk forbids to claim it.
fn held(disk: &Disk, claim: Claim) -> Option<String> {
    match disk.proof.as_ref()? {
        Proof::Stick => Some("it is a stick of Bakelite's (label BAKELITE, or a folder bakelite-backup)".into()),
        Proof::Begun => Some("a stick has begun to put a system onto it; start the machine from that again".into()),
        Proof::Blank => None,
        _ if claim == Claim::Any => None,
        Proof::EmptyFilesystem(_) if claim == Claim::EmptyFilesystem => None,
        Proof::EmptyFilesystem(kind) => {
            Some(format!("it has an empty {kind}; `storage.claim: empty-filesystem` would take it"))
        }
        Proof::Holds(what) => Some(format!("it holds {what}")),
        Proof::Unreadable(why) => Some(format!("it can't be read: {why}")),
    }
}

fn permit(disk: &Disk, storage: &Storage) -> String {
    match (&storage.serial, &disk.proof) {
        (Some(serial), _) => format!("`storage.serial` names it ({serial})"),
        (None, Some(Proof::Blank)) => "it is blank".into(),
        (None, Some(Proof::EmptyFilesystem(kind))) => format!("it has only an empty {kind}"),
        (None, _) => "`storage.claim: any`, and it is the only one".into(),
    }
}
