//! Loading one kernel module file. Which ones, and in which order, is init's to know.

use crate::SysError;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

/// MODULE_INIT_COMPRESSED_FILE: the kernel unpacks the file itself.
const COMPRESSED: i32 = 4;

/// Whether the kernel has a module, loaded or built in. To ask is cheap: to load one again costs the unpacking, the
/// check of its signature, and only then the answer that it is there.
pub fn is_there(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists()
}

/// Loads a module file; one that is there already is no error.
///
/// # Errors
/// When the file can't be read or the kernel refuses it.
pub fn load(name: &str, path: &Path, parameters: &str) -> Result<(), SysError> {
    let failed = |source| SysError::Module { name: name.into(), source };
    let file = File::open(path).map_err(failed)?;
    let parameters = CString::new(parameters).map_err(|error| failed(error.into()))?;
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    match rustix::system::finit_module(&file, &parameters, if compressed { COMPRESSED } else { 0 }) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}
