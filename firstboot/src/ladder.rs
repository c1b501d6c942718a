//! The ladder's rungs that work on the damaged database itself, and what comes of them put where sets are unpacked.
//!
//! The database is only read. Whether it is needed, and what follows, is decided elsewhere.

use crate::error::FirstbootError;
use crate::rekey::{LONG_AGO, SERVER};
use bakelite_datastore::check::{self, Depth, Flaw};
use bakelite_datastore::ladder::{self, Healed, Lost, Patient, Rung};
use bakelite_datastore::rekey;
use bakelite_plan::cluster::DATABASE;
use bakelite_plan::identity::TOKEN;
use bakelite_plan::restore::mirror::MIRROR;
use bakelite_plan::restore::{FOLDER, Note, STAGING};
use bakelite_spec::set;
use bakelite_sys::{durable, machine, mount, read_text, words as words_of};
use std::path::{Path, PathBuf};

/// So many names of lost objects are said; all of them are in the record beside the damaged files.
const NAMED: usize = 20;
/// What was lost, beside the database that was made of the damaged one.
const LOST: &str = "lost.json";
/// What stays free besides the copies, in bytes.
const SPARE: u64 = 64 << 20;

/// Climbs, and leaves a database that holds where a set would be unpacked; empty, or why there is none.
///
/// # Errors
/// When copies can't be made.
pub fn climb(mut note: Note, known: u64) -> Result<String, FirstbootError> {
    let (folder, scratch) = (Path::new(FOLDER).join(STAGING), Path::new(FOLDER).join("ladder"));
    durable::remove_tree(&folder)?;
    durable::remove_tree(&scratch)?;
    durable::make_folder(&scratch)?;
    durable::set_mode(&scratch, 0o700)?;
    let size = std::fs::metadata(DATABASE).map_or(0, |file| file.len());
    let (needed, free) = (3 * size + SPARE, mount::free(&scratch));
    if free < needed {
        return Ok(format!("{needed} bytes are needed for copies of it, and {free} are free"));
    }
    let token = read_text(TOKEN).unwrap_or_default();
    let keys = rekey::keys_of_files(Path::new(SERVER), LONG_AGO, &token);
    let random = [machine::random()?, machine::random()?].concat();
    let (mut salt, mut nonce) = ([0; 8], [0; 12]);
    salt.copy_from_slice(&random[..8]);
    nonce.copy_from_slice(&random[8..20]);
    let database = Path::new(DATABASE);
    let patient =
        Patient { database, scratch: &scratch, known, token: &token, keys: keys.as_ref(), fresh: (salt, nonce) };
    let healed = match ladder::climb(&patient)? {
        Ok(healed) => healed,
        Err(broken) => {
            durable::remove_tree(&scratch)?;
            let each: Vec<String> = broken.iter().map(|(rung, why)| format!("{rung}: {why}")).collect();
            return Ok(each.join("; "));
        }
    };
    note.revision = healed.contents.revision;
    note.row.clone_from(&healed.contents.row);
    note.said = words(&healed);
    log::warn!("{}", note.said);
    let lost = serde_json::to_vec(&healed.lost).map_err(FirstbootError::WriteReport)?;
    let place = database_in(&folder)?;
    durable::publish(&healed.path, &place)?;
    durable::write_durable(folder.join("db").join(LOST), &lost, 0o600)?;
    say_staged(&folder, &note)?;
    durable::remove_tree(&scratch)?;
    Ok(String::new())
}

/// Copies the mirror of the database to where a set would be unpacked, and proves it; empty, or why it isn't used. `known` is a
/// revision that the database has had; only a mirror that is newer than `than` is worth it.
///
/// # Errors
/// When what is proved can't be written down.
pub fn stage_mirror(mut note: Note, known: u64, than: u64) -> Result<String, FirstbootError> {
    let (folder, mirror) = (Path::new(FOLDER).join(STAGING), Path::new(MIRROR));
    durable::remove_tree(&folder)?;
    let place = database_in(&folder)?;
    let needed = std::fs::metadata(mirror).map_or(0, |file| file.len()) + SPARE;
    let free = mount::free(&folder);
    if free < needed {
        return Ok(format!("{needed} bytes are needed for a copy of it, and {free} are free"));
    }
    // A cut may have left it half: SQLite takes that back when it is opened.
    if let Err(error) = bakelite_datastore::copy(mirror, &place) {
        return Ok(words_of(&error));
    }
    let contents = match check::copy(&place, Depth::Contents, than + 1)? {
        Ok(contents) => contents,
        Err(flaw @ Flaw::Older { .. }) => {
            return Ok(format!("there is something newer than it: {flaw}"));
        }
        Err(flaw) => return Ok(flaw.to_string()),
    };
    if let Err(error) = bakelite_datastore::prove(&place, &read_text(TOKEN).unwrap_or_default())? {
        return Ok(error.to_string());
    }
    note.revision = contents.revision;
    note.row = contents.row;
    note.said = format!("{} revisions behind what was known", known.saturating_sub(note.revision));
    say_staged(&folder, &note)?;
    Ok(String::new())
}

/// The place of a database among what is unpacked.
fn database_in(folder: &Path) -> Result<PathBuf, FirstbootError> {
    let place = folder.join(set::DATABASE);
    durable::make_folder(place.parent().unwrap_or(folder))?;
    durable::set_mode(folder, 0o700)?;
    Ok(place)
}

/// What lies there counts from here on.
fn say_staged(folder: &Path, note: &Note) -> Result<(), FirstbootError> {
    durable::sync_file_system(folder)?;
    let said = serde_json::to_vec(note).map_err(FirstbootError::WriteReport)?;
    Ok(durable::write_durable(folder.join(bakelite_datastore::restore::STAGED), &said, 0o600)?)
}

fn words(healed: &Healed) -> String {
    let did = match healed.rung {
        Rung::Recovered => "it was recovered from its log",
        Rung::Reindexed => "its indexes were made anew",
        Rung::Salvaged => "the rows that can be read were put into a new one",
    };
    let keys = if healed.keys_made_again { ", with the cluster's keys from k3s's own files" } else { "" };
    format!("{did}{keys}; {}", lost(&healed.lost))
}

fn lost(lost: &Lost) -> String {
    if lost.is_nothing() {
        return "nothing is missing".into();
    }
    let mut text = format!("{} revisions are lost", lost.revisions.len());
    if !lost.objects.is_empty() {
        let named: Vec<&str> = lost.objects.iter().take(NAMED).map(String::as_str).collect();
        let more = lost.objects.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!(", and with them the newest state of {}{more}", named.join(", ")));
    }
    if lost.uncertain {
        text.push_str("; there may be more, as no index could tell");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said() {
        assert_eq!(lost(&Lost::default()), "nothing is missing");
        let objects: Vec<String> = (0..22).map(|number| format!("/registry/x/{number}")).collect();
        let text = lost(&Lost { revisions: vec![7, 9], objects, uncertain: true });
        assert!(text.starts_with("2 revisions are lost, and with them the newest state of /registry/x/0, "), "{text}");
        assert!(text.contains("/registry/x/19 and 2 more; there may be more"), "{text}");
    }
}
