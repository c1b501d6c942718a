//! The boards that Bakelite knows: the files of board-configs/, taken in when the workshop is compiled.

use bakelite_spec::appliance::{Appliance, Input};
use bakelite_spec::board::Board;
use bakelite_spec::finding::{Finding, nearest};
use bakelite_spec::keys::{BOARD, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::yaml::Document;
use std::collections::BTreeMap;

/// Each board's file by the board's name.
pub const BOARDS: &[(&str, &str)] = &[
    ("generic-x86_64", include_str!("../../board-configs/generic-x86_64.yaml")),
    ("qemu-x86_64", include_str!("../../board-configs/qemu-x86_64.yaml")),
];

const MODULE_SETS: &str = include_str!("../../board-configs/module-sets.yaml");

/// Reads a board by its name.
///
/// # Errors
/// A finding that names the nearest board; the findings in a board's file, which are a defect of this release.
pub fn board(name: &str) -> Result<Board, Vec<Finding>> {
    let Some((_, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = BOARDS.iter().map(|(name, _)| *name).collect();
        let hint = nearest(name, names.iter().copied()).map_or_else(|| names.join(", "), |near| format!("`{near}`"));
        return Err(vec![Finding::error("board.name", format!("`{name}` is not a known board"), hint)]);
    };
    let document = Document::read(&format!("board-configs/{name}.yaml"), text, BOARD)?;
    let effective = Effective::default().with(Layer::Defaults, &defaults(BOARD)).with(Layer::Board, &document.value);
    Board::from_values(&effective.values).map_err(|error| vec![Finding::error("board", error.to_string(), "")])
}

/// A set of kernel modules: their names, which may be written in several lists, or these with the packages that hold
/// their firmware.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Set {
    Modules(Names),
    WithFirmware { modules: Names, packages: Vec<String> },
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<Names>),
}

impl Names {
    fn flatten(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.into_iter().flat_map(Self::flatten).collect(),
        }
    }
}

fn sets() -> Result<BTreeMap<String, Set>, Vec<Finding>> {
    serde_yaml::from_str(MODULE_SETS).map_err(|error| vec![Finding::error("modules", error.to_string(), "")])
}

/// The names of the modules in some sets, sorted. A name that is no set is a module's own; whether the kernel has it is
/// seen when the kernel is.
///
/// # Errors
/// When the sets can't be read, which is a defect of this release.
pub fn modules_of(names: &[String]) -> Result<Vec<String>, Vec<Finding>> {
    let mut known = sets()?;
    let modules = names.iter().flat_map(|name| match known.remove(name) {
        Some(Set::Modules(modules) | Set::WithFirmware { modules, .. }) => modules.flatten(),
        None => vec![name.clone()],
    });
    let mut modules: Vec<String> = modules.collect();
    modules.sort();
    modules.dedup();
    Ok(modules)
}

/// Attaches to a board what an appliance says is attached: modules that the running system can load, and the packages
/// with their firmware. The modules of `modules:` aren't the board's; the packages with their firmware come here.
///
/// # Errors
/// When the sets can't be read, which is a defect of this release.
pub fn attach(board: &mut Board, appliance: &Appliance) -> Result<(), Vec<Finding>> {
    let known = sets()?;
    for name in &appliance.board.with {
        if !board.modules.root.contains(name) {
            board.modules.root.push(name.clone());
        }
    }
    for name in appliance.board.with.iter().chain(&appliance.modules) {
        if let Some(Set::WithFirmware { packages, .. }) = known.get(name) {
            board.packages.extend(packages.iter().cloned());
        }
    }
    if appliance.firewall.input == Input::Closed {
        board.modules.root.push("firewall".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::keys::EXTRAS;

    #[test]
    fn each_board_reads_and_each_of_its_sets_is_there() {
        let known = sets().unwrap();
        for extra in EXTRAS {
            assert!(matches!(known.get(*extra), Some(Set::WithFirmware { .. })), "`board.with: [{extra}]` has no set");
        }
        for (name, text) in BOARDS {
            let board = board(name).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
            for set in board.modules.root.iter().chain(&board.modules.initramfs) {
                assert!(known.contains_key(set), "{name} names the set {set}, which there isn't");
            }
            assert!(text.lines().count() <= 60, "{name} is longer than 60 lines");
        }
    }

    #[test]
    fn a_slip_in_a_board_name_finds_the_nearest() {
        let findings = board("generic-x86-64").unwrap_err();
        assert_eq!(findings[0].to_string(), "board.name: `generic-x86-64` is not a known board; try `generic-x86_64`");
    }
}
