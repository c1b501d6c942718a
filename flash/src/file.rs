//! Files of this host that grow line by line.

use crate::error::{FlashError, io_error};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Appends a text to a file or a printer's device, durably where that means something.
///
/// # Errors
/// When it can't be written.
pub fn append(path: &Path, text: &str) -> Result<(), FlashError> {
    let write = || {
        let mut file = File::options().append(true).create(true).open(path)?;
        file.write_all(text.as_bytes())?;
        // A printer has nothing to sync.
        if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
    };
    write().map_err(io_error("writing", path))
}
