//! The cluster's keys sealed with a new token, in a copy of its database that is left where sets are unpacked.
//!
//! The keys are those of the row, if the token that is there opens it, else those of k3s's own files. So certificates,
//! service accounts' tokens and encrypted secrets stay as they are; only who joins needs the new token.

use crate::error::FirstbootError;
use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::{fold, prove, prove_live, rekey};
use bakelite_plan::cluster::DATABASE;
use bakelite_plan::identity::TOKEN;
use bakelite_plan::restore::{FOLDER, Note, STAGING};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::set;
use bakelite_sys::{durable, machine, mount, read_text};
use std::path::Path;

/// k3s's own files.
pub(crate) const SERVER: &str = "/var/lib/rancher/k3s/server";
/// Only compared for being newer by k3s, which then takes its own file.
pub(crate) const LONG_AGO: &str = "1970-01-01T00:00:00Z";

/// Makes the copy; empty, or why there is none.
///
/// # Errors
/// When the copy can't be made: the medium, not the keys.
pub fn rekey(mut note: Note, known: u64) -> Result<String, FirstbootError> {
    let (database, folder) = (Path::new(DATABASE), Path::new(FOLDER).join(STAGING));
    durable::remove_tree(&folder)?;
    let by_token = read_text(TOKEN).ok().and_then(|token| prove_live(database, &token).ok()?.ok());
    let token = hexadecimal([machine::random()?, machine::random()?].concat());
    let of_files = || rekey::keys_of_files(Path::new(SERVER), LONG_AGO, &token);
    let Some(keys) = by_token.or_else(of_files) else {
        return Ok("no token opens its database, and k3s's own files don't have all of its keys".into());
    };
    let copy = folder.join(set::DATABASE);
    durable::make_folder(copy.parent().unwrap_or(&folder))?;
    durable::set_mode(&folder, 0o700)?;
    let (size, free) = (database.metadata().map_or(0, |file| file.len()), mount::free(&folder));
    if free < 2 * size {
        return Ok(format!("{} bytes are needed for a copy of its database, and {free} are free", 2 * size));
    }
    bakelite_datastore::copy(database, &copy)?;
    let random = [machine::random()?, machine::random()?].concat();
    let (mut salt, mut nonce) = ([0; 8], [0; 12]);
    salt.copy_from_slice(&random[..8]);
    nonce.copy_from_slice(&random[8..20]);
    rekey::reseal(&copy, &token, &keys, salt, nonce)?;
    fold::fold(&copy)?;
    let contents = match check::copy(&copy, Depth::Full, known)? {
        Ok(contents) => contents,
        Err(flaw) => return Ok(flaw.to_string()),
    };
    if let Err(why) = prove(&copy, &token)? {
        return Ok(why.to_string());
    }
    durable::write_durable(folder.join(set::TOKEN), token.as_bytes(), 0o600)?;
    note.revision = contents.revision;
    note.row = contents.row;
    note.said = "its keys are sealed with a new token, which other nodes need to join".into();
    log::info!("sealed the cluster's keys with a new token, in a copy at revision {}", note.revision);
    let said = serde_json::to_vec(&note).map_err(FirstbootError::WriteReport)?;
    durable::write_durable(folder.join(bakelite_datastore::restore::STAGED), &said, 0o600)?;
    Ok(String::new())
}
