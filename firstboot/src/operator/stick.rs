//! The one stick that is plugged in for Bakelite: by its label, or by its folder. Written to by a person's word only.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::sets;
use crate::world::Machine;
use bakelite_sys::{stick as medium, words};
use bakelite_trust::stick;
use std::path::{Path, PathBuf};

/// Changes it: gives the act the folder that is ours on it. When this ends well, the change is on the stick.
///
/// # Errors
/// When there is none or more than one, it can't be written, or what the act itself says.
pub fn change<T>(root: &Path, act: impl FnOnce(&Path) -> Result<T, FirstbootError>) -> Result<T, FirstbootError> {
    let machine = Machine::new(root, Looked::by_early(root));
    let mut found: Vec<(PathBuf, &'static str)> = Vec::new();
    for name in machine.foreign() {
        match sets::stick(&name) {
            Ok(stick) => found.extend(stick),
            // A sick disk is no reason not to look at the others.
            Err(error) => log::warn!("looking for a stick on {name}: {}", words(&error)),
        }
    }
    let (device, driver) = match &found[..] {
        [one] => one,
        [] => return Err(FirstbootError::NoStick(stick::LABEL, stick::FOLDER)),
        several => {
            let names: Vec<String> = several.iter().map(|(device, _)| device.display().to_string()).collect();
            return Err(FirstbootError::Sticks(names.join(" and ")));
        }
    };
    medium::change(device, driver, |root| {
        let folder = root.join(stick::FOLDER);
        act(if folder.is_dir() { &folder } else { root })
    })
}
