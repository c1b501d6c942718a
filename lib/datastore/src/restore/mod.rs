//! Restore: a set unpacked and proved beside the place it goes to, then put there, with all that was there moved aside.
//!
//! k3s.md 3.4. Everything is checked before anything is touched. What is put in place goes by single renames within one
//! file system, each durable before the next; which is next follows from what is there, so whoever is cut goes on where he
//! was. k3s must not run before all of it is done: that is the caller's intent on another medium.

mod place;

pub use place::{Places, put_back, put_in_place};

use crate::set::{self, Opened, SetError};
use crate::volumes;
use bakelite_sys::durable;
use std::path::Path;

/// That a folder holds a whole, proved set; its text is the caller's.
pub const STAGED: &str = "staged.json";

/// Unpacks a set into a folder of its own, proves it, and says so there, durably; what was there goes.
///
/// # Errors
/// When the set can't be opened or isn't as it has to be; the folder is gone then.
pub fn stage(path: &Path, keys: &[&dyn age::Identity], into: &Path, note: &str) -> Result<Opened, SetError> {
    durable::remove_tree(into)?;
    durable::make_folder(into)?;
    durable::set_mode(into, 0o700)?;
    let staged = set::unpack(path, keys, into).and_then(|opened| {
        volumes::spread(into)?;
        durable::write_durable(into.join(STAGED), note.as_bytes(), 0o600)?;
        Ok(opened)
    });
    if staged.is_err() {
        durable::remove_tree(into)?;
    }
    staged
}
