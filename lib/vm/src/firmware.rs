//! UEFI firmware for QEMU: Debian's OVMF and AAVMF, with a copy of its variables for each machine.
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

/// Debian's package for an architecture, and where it puts code and variables without and with Microsoft's keys.
struct Package {
    name: &'static str,
    folder: &'static str,
    plain: (&'static str, &'static str),
    secure: Option<(&'static str, &'static str)>,
}

const OVMF: Package = Package {
    name: "ovmf",
    folder: "/usr/share/OVMF",
    plain: ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    secure: Some(("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd")),
};
/// Its Secure Boot keeps the variables where the running system can write them, so it would show nothing.
const AAVMF: Package = Package {
    name: "qemu-efi-aarch64",
    folder: "/usr/share/AAVMF",
    plain: ("AAVMF_CODE.fd", "AAVMF_VARS.fd"),
    secure: None,
};

/// Finds the firmware: its code, and its variables as they come.
///
/// # Errors
/// When it isn't installed, or there is none.
pub fn find(arch: Arch, secure: bool) -> Result<(PathBuf, PathBuf), VmError> {
    let package = match arch {
        Arch::X86_64 => OVMF,
        Arch::Aarch64 => AAVMF,
        Arch::Armv7 => {
            return Err(VmError::Unsupported("32-bit ARM has no UEFI firmware here; start it directly".into()));
        }
    };
    let files = if secure { package.secure } else { Some(package.plain) };
    let (code, fresh) =
        files.ok_or_else(|| VmError::Unsupported(format!("there is no Secure Boot for {} here", arch.name())))?;
    let (code, fresh) = (Path::new(package.folder).join(code), Path::new(package.folder).join(fresh));
    for path in [&code, &fresh] {
        if !path.is_file() {
            return Err(VmError::NoFirmware { path: path.display().to_string(), package: package.name });
        }
    }
    Ok((code, fresh))
}

/// Finds the firmware and puts a copy of its variables at a path, unless some are there already.
///
/// # Errors
/// When it isn't installed, or the copy can't be made.
pub fn prepare(arch: Arch, secure: bool, variables: &Path) -> Result<Flash, VmError> {
    let (code, fresh) = find(arch, secure)?;
    if !variables.exists() {
        std::fs::copy(&fresh, variables).map_err(at_file("copying", &fresh))?;
    }
    Ok(Flash { code, variables: variables.into(), secure })
}
