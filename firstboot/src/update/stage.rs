//! The stage of a rehearsal: a process with a network and mounts of its own, which becomes the new k3s.
//!
//! It sees the new system as its root, read-only, and of this machine what the rehearsal's folder has: its data, its settings, /run
//! and /tmp. Its one link leads nowhere. What it mounts goes with it, and it goes with the program that started it.

use crate::error::FirstbootError;
use crate::world;
use bakelite_plan::update::rehearsal::{FOLDER, MEMORY};
use bakelite_sys::mount::{self, MountFlags};
use bakelite_sys::{durable, link, tool};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

/// The word by which this program becomes it.
pub const WORD: &str = "rehearse";
/// That all of it was made, in the rehearsal's folder: what ends later is k3s.
pub const READY: &str = "run/staged";
/// Where k3s says that it is ready, in that folder.
pub const NOTIFY: &str = "run/notify";

/// The folders of the rehearsal, and where the new system has them.
pub const PLACES: [(&str, &str); 4] = [("run", "run"), ("tmp", "tmp"), ("var", "var"), ("etc", "etc/rancher")];

/// Becomes the k3s of the system on a partition; `program` is where it has it.
///
/// # Errors
/// When anything can't be made, or there is no such program.
pub fn enter(device: &str, program: &str) -> Result<Infallible, FirstbootError> {
    tool::step_back()?;
    link::apart()?;
    world::make_first_dummy()?;
    mount::apart()?;
    let folder = Path::new(FOLDER);
    let root = folder.join("root");
    mount::mount(device, &root, "squashfs", MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID, "")?;
    for (own, place) in PLACES {
        mount::bind(&folder.join(own), &root.join(place))?;
    }
    mount::bind(Path::new("/dev"), &root.join("dev"))?;
    mount::bind(Path::new("/proc"), &root.join("proc"))?;
    // The kernel's settings are those of the machine.
    let settings = root.join("proc/sys");
    mount::bind(&settings, &settings)?;
    mount::remount(&settings, MountFlags::RDONLY | MountFlags::BIND)?;
    mount::mount("sysfs", root.join("sys"), "sysfs", MountFlags::RDONLY, "")?;
    if !root.join(program.trim_start_matches('/')).is_file() {
        return Err(FirstbootError::NotUpdated(format!("the new system has no {program}")));
    }
    durable::replace(folder.join(READY), b"staged\n", 0o600)?;
    mount::enter(&root)?;
    let environment: BTreeMap<String, String> = [
        ("NOTIFY_SOCKET".to_string(), format!("/{NOTIFY}")),
        // Go's own memory stays well below what the group may take: its files are in there, too.
        ("GOMEMLIMIT".to_string(), (MEMORY / 4 * 3).to_string()),
    ]
    .into();
    Err(tool::become_program(program, &["server"], &environment).into())
}
