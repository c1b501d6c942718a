//! UEFI firmware for QEMU: Debian's OVMF, with a copy of its variables for each machine.
//!
//! With Secure Boot the variables are those with Microsoft's keys, which shim is signed against.

use crate::error::{VmError, at_file};
use bakelite_spec::board::Arch;
use std::path::{Path, PathBuf};

/// Firmware's two flash chips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The code, read-only.
    pub code: PathBuf,
    /// The machine's own variables.
    pub variables: PathBuf,
    /// Whether Secure Boot is on.
    pub secure: bool,
}

/// Where Debian's packages put it: code and variables without and with Microsoft's keys.
const OVMF: &str = "/usr/share/OVMF";
const PLAIN: (&str, &str) = ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd");
const SECURE: (&str, &str) = ("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd");

/// Finds the firmware and puts a copy of its variables at a path, unless some are there already.
///
/// # Errors
/// When it isn't installed, or the copy can't be made.
pub fn prepare(arch: Arch, secure: bool, variables: &Path) -> Result<Flash, VmError> {
    if arch != Arch::X86_64 {
        return Err(VmError::Unsupported(format!("UEFI firmware for {} isn't chosen yet", arch.name())));
    }
    let (code, fresh) = if secure { SECURE } else { PLAIN };
    let (code, fresh) = (Path::new(OVMF).join(code), Path::new(OVMF).join(fresh));
    for path in [&code, &fresh] {
        if !path.is_file() {
            return Err(VmError::NoFirmware { path: path.display().to_string(), package: "ovmf" });
        }
    }
    if !variables.exists() {
        std::fs::copy(&fresh, variables).map_err(at_file("copying", &fresh))?;
    }
    Ok(Flash { code, variables: variables.into(), secure })
}
