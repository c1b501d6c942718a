//! What acts have moved aside, and when it goes.
//!
//! It is evidence, and the way back of a restore: nothing of it goes while one has to prove itself, nor in a boot that isn't
//! a good one. After that the two newest stay, as long as they take no more room than there is left.

use super::{ASIDE_ON_STATE, FOLDER, aside, trial};
use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::home;
use crate::step::Decision;
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;

/// So many stay.
const KEPT: usize = 2;

/// Decides about what was moved aside.
pub fn decide(facts: &Facts, _: &Settings) -> Decision {
    if trial::on(facts).is_some() || home::intent(facts).is_some() || !facts.has(paths::GOOD) {
        return Decision::Skip("what was moved aside stays until all is well".into());
    }
    let (mut kept, mut goes, mut bytes) = (0, Vec::new(), 0u64);
    let free = facts.free_beside_data;
    for (number, size) in facts.asides.iter().rev() {
        bytes = bytes.saturating_add(*size);
        if kept < KEPT && bytes <= free {
            kept += 1;
        } else {
            goes.push((*number, *size));
        }
    }
    let size = Size(goes.iter().map(|(_, size)| size).sum()).human();
    let folders =
        goes.iter().flat_map(|(number, _)| [FOLDER, ASIDE_ON_STATE].map(|at| format!("{at}/{}", aside(*number))));
    Decision::of(
        folders.map(|path| Action::RemoveFolder { path }).collect(),
        format!("{kept} act(s) can be looked into"),
        format!("what {} older act(s) moved aside goes, {size}", goes.len()),
    )
}
