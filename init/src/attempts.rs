//! init's part of the record of attempts: a restart is noted before it is done, and a good boot forgets faults.
//!
//! The rules are spec's; firstboot counts in the same record (law 10).

use bakelite_spec::attempts::{Attempts, PATH};
use bakelite_sys::{SysError, durable, read_text};

fn read() -> Attempts {
    Attempts::read(&read_text(PATH).unwrap_or_default())
}

fn keep(attempts: &Attempts) -> Result<(), SysError> {
    durable::write_durable(PATH, attempts.text().as_bytes(), 0o600)
}

/// Whether the machine may be restarted for a reason now; if so, that is on the medium.
///
/// # Errors
/// When it can't be noted.
pub fn may_reboot(reason: &str, running: i64) -> Result<bool, SysError> {
    let mut attempts = read();
    let may = attempts.may_reboot(reason, running);
    if may {
        keep(&attempts)?;
    }
    Ok(may)
}

/// Forgets all faults, if there were any.
///
/// # Errors
/// When that can't be written.
pub fn forget_faults() -> Result<(), SysError> {
    let mut attempts = read();
    if attempts.steps.is_empty() && attempts.begun.is_none() {
        return Ok(());
    }
    attempts.forget_faults();
    keep(&attempts)
}
